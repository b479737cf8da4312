"""Evaluation where every rank holds a part of the queries and of the gallery."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit.distributed import gather
from clipreid_kit.metrics._engine.count_nonmatches import count_wrong
from clipreid_kit.metrics._engine.embedding_rows import Rows
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.identity_matches import Labels, read_labels
from clipreid_kit.metrics._engine.match_counts import Matches
from clipreid_kit.metrics._engine.match_similarities import match_scores
from clipreid_kit.metrics._engine.ranks_to_measures import Ties, result_of
from clipreid_kit.metrics.results.reid_result import ReidResult

_OWNER = "ReidEvaluator"
_QUERIES = 1 << 12  # queries of one rank that all ranks see at once


class Shard(NamedTuple):
    """Embeddings with their identities, cameras and values of further rules."""

    embeddings: Tensor
    ids: npt.NDArray[Any]
    cameras: npt.NDArray[Any] | None
    exclude: tuple[npt.NDArray[Any], ...]

    def kind(self) -> tuple[str, ...]:
        """What has to be the same in all batches of a set; all but the last also for both sets."""
        return (
            f"width {self.embeddings.shape[1]}",
            "named ids" if self.ids.dtype.kind == "U" else "numbered ids",
            "no cameras" if self.cameras is None else "cameras",
            f"{len(self.exclude)} values of exclude",
            str(self.embeddings.dtype).removeprefix("torch."),
        )


def joined(batches: Sequence[Shard]) -> Shard:
    """All batches as one; an empty one of width 0 if there is none."""
    if not batches:
        return Shard(torch.empty(0, 0), np.empty(0, dtype=np.int64), None, ())
    if len(batches) == 1:
        return batches[0]
    cameras = [batch.cameras for batch in batches if batch.cameras is not None]
    return Shard(
        torch.cat([batch.embeddings for batch in batches]),
        np.concatenate([batch.ids for batch in batches]),
        np.concatenate(cameras) if cameras else None,
        tuple(
            np.concatenate(values)
            for values in zip(*(batch.exclude for batch in batches), strict=True)
        ),
    )


def evaluate_shards(
    shards: tuple[Shard, Shard | None],
    junk_ids: Sequence[int] | Sequence[str],
    distance: Distance,
    ties: Ties,
    max_rank: int,
) -> ReidResult:
    """Evaluate the shards of all ranks as one set, in rank order; every rank has to call this.

    The queries go round, a few at a time. Each rank scores the matches in its own gallery, all ranks learn these
    scores, each counts the wrong items of its own gallery, and the counts are added up. All of this is exact, so the
    result is that of one process.

    Args:
        shards: Queries and gallery of this rank; ``None`` for the gallery is leave-one-out.
        junk_ids: Identities that stand in no ranking.
        distance: ``"cosine"`` or ``"euclidean"``.
        ties: Rule for ties.
        max_rank: Length of the CMC curve.
    """
    query, gallery = shards[0], shards[0] if shards[1] is None else shards[1]
    rows = _checked(query, gallery)
    ids, cameras, exclude, sizes = _all_queries(query)
    own = None
    if shards[1] is None:
        first = sum(sizes[: dist.get_rank()])
        own = np.arange(sum(sizes)), np.arange(first, first + len(gallery.ids))
    rules = []
    if len(gallery.ids):
        rules.append(("cameras", cameras, gallery.cameras))
        rules += [
            ("values of exclude", q, g) for q, g in zip(exclude, gallery.exclude, strict=True)
        ]
    labels = read_labels(
        _OWNER, (len(ids), len(gallery.ids)), (ids, gallery.ids), rules, junk_ids, own
    )
    found = list(_find(query, rows, labels, sizes, distance))
    labels.num_cameras = None  # of one rank
    labels.num_gallery = int(_summed(torch.tensor(labels.num_gallery)))
    if not any(len(matches.above) for matches in found):
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, (np.unique(gallery.ids), labels.rules))
        labels.num_identities = len(
            np.unique(np.concatenate([unique for unique, _ in everyone if len(unique)]))
        )
        labels.rules = max((names for _, names in everyone), key=len)
    return result_of(_OWNER, found, labels, ties, max_rank)


def _checked(query: Shard, gallery: Shard) -> Rows | None:
    """The gallery of this rank, if it has one; an error on any rank is raised on all, so that none waits for ever."""
    rows, message = None, ""
    try:
        for name, shard in (("query_embeddings", query), ("gallery_embeddings", gallery)):
            if len(shard.ids):
                rows = Rows(_OWNER, name, shard.embeddings)
                rows.norms(0, len(rows))
        rows = rows if len(gallery.ids) else None
    except ValueError as error:
        message = str(error)
    kinds = [shard.kind() if len(shard.ids) else None for shard in (query, gallery)]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, (message, *kinds))
    for rank, (text, *_) in enumerate(everyone):
        if text:
            raise ValueError(f"{text} (on rank {rank})")
    for name, of_all in zip(
        ("query", "gallery"), list(zip(*everyone, strict=True))[1:], strict=True
    ):
        found = sorted({", ".join(kind) for kind in of_all if kind is not None})
        if len(found) == 0:
            raise fail(
                _OWNER,
                f'at least one batch of split="{name}" on some rank',
                "none",
                "Was update called?",
            )
        if len(found) > 1:
            raise fail(
                _OWNER, f'all batches of split="{name}" alike on all ranks', "; ".join(found)
            )
    sides = sorted(
        {", ".join(kind[:-1]) for _, *both in everyone for kind in both if kind is not None}
    )
    if len(sides) > 1:
        raise fail(_OWNER, "both splits alike", "; ".join(sides))
    return rows


def _all_queries(query: Shard) -> tuple[Any, Any, Any, list[int]]:
    """Identities, cameras and further values of the queries of all ranks, and how many each has."""
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, query._replace(embeddings=query.embeddings[:0].cpu()))
    some = [shard for shard in everyone if len(shard.ids)]
    whole = joined(some)
    return whole.ids, whole.cameras, whole.exclude, [len(shard.ids) for shard in everyone]


def _find(
    query: Shard, gallery: Rows | None, labels: Labels, sizes: list[int], distance: Distance
) -> Iterator[Matches]:
    widths: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(widths, (query.embeddings.shape[1], query.embeddings.dtype))
    width, dtype = next(kind for kind, size in zip(widths, sizes, strict=True) if size)
    device = _device()
    first = 0
    for rank, size in enumerate(sizes):
        for start in range(0, size, _QUERIES):
            stop = min(start + _QUERIES, size)
            if rank == dist.get_rank():
                part = query.embeddings[start:stop].contiguous().to(device)
            else:
                part = torch.empty(stop - start, width, dtype=dtype, device=device)
            dist.broadcast(part.view(torch.uint8), src=rank)
            yield _part(part, gallery, labels, first + start, first + stop, distance)
        first += size


def _part(
    embeddings: Tensor,
    gallery: Rows | None,
    labels: Labels,
    start: int,
    stop: int,
    distance: Distance,
) -> Matches:
    """Matches of some queries in the galleries of all ranks, counted on all ranks."""
    pairs = labels.pairs(start, stop)
    mine, scores = pairs.query[pairs.valid], np.empty(0)
    queries = None
    if gallery is not None:
        queries = Rows(_OWNER, "query_embeddings", embeddings, gallery.device)
        scores = match_scores(queries, gallery, start, stop, labels, pairs, distance)[pairs.valid]
    device = _device()
    of_all = gather(torch.from_numpy(mine).to(device)).cpu().numpy()
    values = gather(torch.from_numpy(scores).to(device)).cpu().numpy()
    order = np.argsort(of_all, kind="stable")
    begin = np.concatenate([[0], np.cumsum(np.bincount(of_all, minlength=stop - start))])
    has_identity = torch.from_numpy((np.diff(pairs.begin) > 0).astype(np.int64))
    with_identity = int((_summed(has_identity) > 0).sum())
    matches = Matches(begin, np.full(len(order), -1), values[order], with_identity)
    if queries is not None and gallery is not None and matches.known:
        count_wrong(queries, gallery, pairs, labels.ignored, matches, distance)
    matches.above, matches.tied = (
        _summed(torch.from_numpy(x)).numpy() for x in (matches.above, matches.tied)
    )
    return matches


def _summed(numbers: Tensor) -> Tensor:
    """The sum over all ranks, on the CPU."""
    total = numbers.to(_device(), copy=True)
    dist.all_reduce(total)
    return total.cpu()


def _device() -> torch.device:
    """Where tensors have to be to be sent."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if dist.get_backend() == "nccl"
        else torch.device("cpu")
    )
