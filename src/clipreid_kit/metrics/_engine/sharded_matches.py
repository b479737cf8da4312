"""Counted matches where every rank holds a part of the queries and of the gallery."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.distributed import communication_device, gather
from clipreid_kit.metrics._engine.count_nonmatches import count_nonmatches
from clipreid_kit.metrics._engine.identity_matches import (
    IdentityMatches,
    Rule,
    read_identity_matches,
    warn_if_cameras_differ,
)
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.match_similarities import identity_similarities

_MAX_QUERIES = 1 << 12  # queries of one rank that all ranks see at once


class Shard(NamedTuple):
    """Embeddings with their identities, cameras and values of further rules."""

    embeddings: Tensor
    ids: npt.NDArray[Any]
    cameras: npt.NDArray[Any] | None
    exclude: tuple[npt.NDArray[Any], ...]

    def kind(self) -> tuple[str, ...]:
        """Describe what has to agree in all batches of a split.

        All but the last item have to agree between both splits, too.
        """
        return (
            f"width {self.embeddings.shape[1]}",
            "named ids" if self.ids.dtype.kind == "U" else "numbered ids",
            "no cameras" if self.cameras is None else "cameras",
            f"{len(self.exclude)} values of exclude",
            str(self.embeddings.dtype).removeprefix("torch."),
        )


def join_shards(shards: Sequence[Shard]) -> Shard:
    """Concatenate shards; without any, return an empty one of width 0."""
    if not shards:
        return Shard(torch.empty(0, 0, device="cpu"), np.empty(0, dtype=np.int64), None, ())
    if len(shards) == 1:
        return shards[0]

    cameras = [shard.cameras for shard in shards if shard.cameras is not None]
    exclude = zip(*(shard.exclude for shard in shards), strict=True)
    return Shard(
        torch.cat([shard.embeddings for shard in shards]),
        np.concatenate([shard.ids for shard in shards]),
        np.concatenate(cameras) if cameras else None,
        tuple(np.concatenate(values) for values in exclude),
    )


def find_sharded_matches(
    owner: str,
    query: Shard,
    gallery: Shard | None,
    junk_ids: Sequence[int] | Sequence[str],
    distance: Distance,
    options: Sequence[object] = (),
) -> tuple[list[MatchCounts], IdentityMatches]:
    """Count the matches of the shards of all ranks as one set, in rank order.

    Every rank has to call this. The queries are broadcast, a few at a time. Each rank computes the
    similarities of the matches in its own gallery, all ranks gather them, each counts the
    non-matches of its own gallery, and the counts are summed. All of this is exact, so the result
    is that of one process.

    Args:
        owner: Name of the caller, for error messages.
        query: Queries of this rank.
        gallery: Gallery of this rank; ``None`` is leave-one-out.
        junk_ids: Identities that are left out of every ranking.
        distance: ``"cosine"`` or ``"euclidean"``.
        options: What else has to be equal on all ranks.

    Returns:
        The matches of all queries, and their identities, the same on every rank.
    """
    leave_one_out = gallery is None
    if gallery is None:
        gallery = query
    every_option = (distance, list(junk_ids), leave_one_out, *options)
    rows = _check_shards(owner, query, gallery, repr(every_option))
    query_labels, sizes = _gather_query_labels(query)
    num_queries, num_gallery = len(query_labels.ids), len(gallery.ids)

    row_numbers = None
    if leave_one_out:
        first = sum(sizes[: dist.get_rank()])
        row_numbers = np.arange(num_queries), np.arange(first, first + num_gallery)

    rules = []
    if num_gallery:
        rules.append(Rule("cameras", query_labels.cameras, gallery.cameras))
        for of_query, of_gallery in zip(query_labels.exclude, gallery.exclude, strict=True):
            rules.append(Rule("values of exclude", of_query, of_gallery))

    # A rank without gallery rows has no ids that could be wrong.
    text = ""
    try:
        identities = read_identity_matches(
            owner,
            (num_queries, num_gallery),
            (query_labels.ids, gallery.ids),
            rules,
            junk_ids,
            row_numbers,
            is_whole=False,
        )
    except ValueError as error:
        text = str(error)
    _raise_first(_gather_objects(text))
    _warn_if_cameras_differ(owner, query_labels, identities)

    matches = list(_find(owner, query, rows, identities, sizes, distance))
    _share_description(identities, gallery, matches)
    return matches, identities


def _check_shards(owner: str, query: Shard, gallery: Shard, options: str) -> EmbeddingRows | None:
    """Check the shards of all ranks, and return the gallery of this one, if it has any.

    An error on one rank is raised on all, so that none waits for ever.
    """
    rows, message = _read_gallery(owner, query, gallery)
    kinds = [shard.kind() if len(shard.ids) else None for shard in (query, gallery)]
    reports = _gather_objects((message, *kinds))
    _raise_first(text for text, *_ in reports)

    of_ranks = _gather_objects(options)
    if len(set(of_ranks)) > 1:
        raise ValueError(
            f"{owner}: its options differ between the ranks ({'; '.join(of_ranks)}). "
            "Construct it alike on every rank."
        )

    query_kinds = [of_query for _, of_query, _ in reports if of_query is not None]
    gallery_kinds = [of_gallery for _, _, of_gallery in reports if of_gallery is not None]
    _check_kinds(owner, "query", query_kinds)
    _check_kinds(owner, "gallery", gallery_kinds)

    # the dtype, which comes last, may differ between the splits
    of_both = sorted({", ".join(kind[:-1]) for kind in query_kinds + gallery_kinds})
    if len(of_both) > 1:
        raise fail(owner, "both splits alike", "; ".join(of_both))
    return rows


def _warn_if_cameras_differ(owner: str, query: Shard, identities: IdentityMatches) -> None:
    """Warn on every rank if the cameras of the queries are hardly in the gallery of any."""
    if query.cameras is None:
        return

    meets = identities.meets_camera
    counts = torch.zeros(len(query.ids), dtype=torch.float32, device="cpu")
    if meets is not None:
        counts = torch.from_numpy(meets).float()
    warn_if_cameras_differ(owner, _sum_over_ranks(counts).numpy() > 0)


def _raise_first(texts: Iterable[str]) -> None:
    """Raise the first error of any rank, given the text of each rank's, empty for none."""
    for rank, text in enumerate(texts):
        if text:
            raise ValueError(f"{text} (on rank {rank})")


def _read_gallery(owner: str, query: Shard, gallery: Shard) -> tuple[EmbeddingRows | None, str]:
    """Check the rows of this rank; return its gallery, if any, and the message of an error."""
    rows = None
    try:
        if len(query.ids):
            queries = EmbeddingRows(owner, "query_embeddings", query.embeddings)
            queries.norms(0, len(queries))
        if len(gallery.ids):
            rows = EmbeddingRows(owner, "gallery_embeddings", gallery.embeddings)
            rows.norms(0, len(rows))
    except ValueError as error:
        return None, str(error)
    return rows, ""


def _check_kinds(owner: str, split: str, kinds: Sequence[tuple[str, ...]]) -> None:
    """Require batches on some rank, and batches of one kind on all ranks."""
    distinct = sorted({", ".join(kind) for kind in kinds})
    if len(distinct) == 0:
        raise ValueError(
            f'{owner}: no rank has a batch of split="{split}"; call update before compute.'
        )
    if len(distinct) > 1:
        raise fail(owner, f'all batches of split="{split}" alike on all ranks', "; ".join(distinct))


def _gather_query_labels(query: Shard) -> tuple[Shard, list[int]]:
    """Return the labels of the queries of all ranks without embeddings, and how many each has."""
    reports: list[Shard] = _gather_objects(query._replace(embeddings=query.embeddings[:0].cpu()))
    sizes = [len(shard.ids) for shard in reports]
    return join_shards([shard for shard in reports if len(shard.ids)]), sizes


def _find(
    owner: str,
    query: Shard,
    gallery: EmbeddingRows | None,
    identities: IdentityMatches,
    sizes: list[int],
    distance: Distance,
) -> Iterator[MatchCounts]:
    """Broadcast the queries of one rank after the other, and count their matches on all ranks."""
    kinds = _gather_objects((query.embeddings.shape[1], query.embeddings.dtype))
    width, dtype = next(kind for kind, size in zip(kinds, sizes, strict=True) if size)
    device = communication_device()

    first = 0
    for rank, size in enumerate(sizes):
        for start in range(0, size, _MAX_QUERIES):
            stop = min(start + _MAX_QUERIES, size)
            if rank == dist.get_rank():
                part = query.embeddings[start:stop].contiguous().to(device)
            else:
                part = torch.empty(stop - start, width, dtype=dtype, device=device)
            dist.broadcast(part.view(torch.uint8), src=rank)
            yield _count(owner, part, gallery, identities, first + start, first + stop, distance)
        first += size


def _count(
    owner: str,
    embeddings: Tensor,
    gallery: EmbeddingRows | None,
    identities: IdentityMatches,
    start: int,
    stop: int,
    distance: Distance,
) -> MatchCounts:
    """Count the matches of some queries in the galleries of all ranks, on all ranks."""
    pairs = identities.pairs(start, stop)
    queries = None
    own_similarities = np.empty(0)
    if gallery is not None:
        queries = EmbeddingRows(owner, "query_embeddings", embeddings, gallery.device)
        own_similarities = identity_similarities(
            queries, gallery, start, stop, identities, pairs, distance
        )[pairs.valid]

    # all ranks learn the similarities of all matches
    device = communication_device()
    own_query = torch.from_numpy(pairs.query[pairs.valid]).to(device)
    query = gather(own_query).cpu().numpy()
    similarities = gather(torch.from_numpy(own_similarities).to(device)).cpu().numpy()
    order = np.argsort(query, kind="stable")
    begin = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=stop - start))])

    has_identity = torch.from_numpy((np.diff(pairs.begin) > 0).astype(np.int64))
    num_with_identity = int((_sum_over_ranks(has_identity) > 0).sum())
    matches = MatchCounts(begin, np.full(len(order), -1), similarities[order], num_with_identity)

    if queries is not None and gallery is not None and matches.has_similarities:
        count_nonmatches(queries, gallery, pairs, identities.junk_rows, matches, distance)
    matches.above = _sum_over_ranks(torch.from_numpy(matches.above)).numpy()
    matches.tied = _sum_over_ranks(torch.from_numpy(matches.tied)).numpy()
    return matches


def _share_description(
    identities: IdentityMatches, gallery: Shard, matches: Sequence[MatchCounts]
) -> None:
    """Replace what ``identities`` says about the gallery of one rank by what holds for all."""
    identities.num_cameras = None
    identities.num_gallery = int(
        _sum_over_ranks(torch.tensor(identities.num_gallery, device="cpu"))
    )
    if any(len(part.above) for part in matches):
        return

    # without any match the error message describes the identities and rules of all ranks
    reports = _gather_objects((np.unique(gallery.ids), identities.rules))
    distinct = np.concatenate([ids for ids, _ in reports if len(ids)])
    identities.num_identities = len(np.unique(distinct))
    identities.rules = max((rules for _, rules in reports), key=len)


def _gather_objects(value: object) -> list[Any]:
    """Return the objects of all ranks, in rank order."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _sum_over_ranks(numbers: Tensor) -> Tensor:
    """Return the sum over all ranks, on the CPU."""
    total = numbers.to(communication_device(), copy=True)
    dist.all_reduce(total)
    return total.cpu()
