"""Export an evaluation of embeddings to TREC's files, for other programs to score."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, fail, shown
from clipreid_kit._read_files import PathLike
from clipreid_kit._similarity.embedding_rows import EmbeddingRows, check_same_dim
from clipreid_kit._similarity.exact_similarity import (
    Distance,
    SplitRows,
    all_products,
    combine_products,
    split_rows,
)
from clipreid_kit.metrics._engine.id_columns import Ids
from clipreid_kit.metrics._engine.identity_matches import (
    IdentityMatches,
    Rule,
    read_identity_matches,
)
from clipreid_kit.metrics.results.trec_files import RankedList, write_trec_qrels, write_trec_run

_CELLS = 1 << 20  # similarities that are held at once


@torch.no_grad()
def export_trec(
    run: PathLike,
    qrels: PathLike,
    query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    query_names: Sequence[str] | None = None,
    gallery_names: Sequence[str] | None = None,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    junk_ids: Sequence[int] | Sequence[str] = (),
    distance: Distance = "cosine",
    k: int = 1000,
    tag: str = "clipreid_kit",
) -> None:
    """Write the nearest gallery items of each query, and its matches, as TREC's run and qrels.

    Items are ranked as :func:`evaluate_reid` ranks them: by the exact similarity, with a match
    below the non-matches that it is tied with. Items that the rules leave out for a query (junk,
    and its identity by its camera) are in neither file. With ``k`` of at least the gallery's size,
    the mean average precision of ir-measures, ranx or trec_eval is that of :func:`evaluate_reid`;
    a smaller k cuts the lists, and lowers it.

    Args:
        run: Run file to write.
        qrels: Qrels file to write.
        query_embeddings: (Q, D), any scale, float16 to float64.
        gallery_embeddings: (G, D), likewise.
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery row, of the same kind.
        query_names: Name of each query, all different; defaults to ``q0``, ``q1``, .... For how
            blanks are escaped see :func:`write_trec_run`.
        gallery_names: Name of each gallery row, all different; defaults to ``g0``, ``g1``, ....
        query_cameras: Camera of each query; ``None`` (for both sides) leaves nothing out.
        gallery_cameras: Camera of each gallery row.
        junk_ids: Gallery rows with one of these identities are left out.
        distance: ``"cosine"``, or ``"euclidean"``, whose scores are minus the squared distances.
        k: Largest number of items of a query.
        tag: Name of the run.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or
            infinity, or names are empty or not all different.
        OSError: If a file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run, qrels = pathlib.Path(folder, "run"), pathlib.Path(folder, "qrels")
        ...     export_trec(run, qrels, gallery[:1], gallery, query_ids=[7], gallery_ids=[3, 7, 7])
        ...     print(run.read_text() + qrels.read_text())
        q0 Q0 g0 1 1 clipreid_kit
        q0 Q0 g1 2 0.600000024 clipreid_kit
        q0 Q0 g2 3 0 clipreid_kit
        q0 0 g1 1
        q0 0 g2 1
        <BLANKLINE>
    """
    owner = "export_trec"
    check_choice(owner, "distance", distance, ("cosine", "euclidean"))
    check_integer(owner, "k", k, 1)

    queries = EmbeddingRows(owner, "query_embeddings", query_embeddings)
    gallery = EmbeddingRows(owner, "gallery_embeddings", gallery_embeddings, queries.device)
    check_same_dim(owner, queries, gallery)
    for rows in (queries, gallery):
        rows.norms(0, len(rows))  # raises for NaN and infinity

    identities = read_identity_matches(
        owner,
        (len(queries), len(gallery)),
        (query_ids, gallery_ids),
        [Rule("cameras", query_cameras, gallery_cameras)],
        junk_ids,
    )
    names = (
        _names(owner, "query_names", query_names, "q", len(queries)),
        _names(owner, "gallery_names", gallery_names, "g", len(gallery)),
    )

    write_trec_qrels(qrels, _matches(identities, names))
    lists = _ranked_lists(queries, gallery, identities, names, distance, k)
    write_trec_run(run, lists, tag=tag)


def _names(
    owner: str, argument: str, names: Sequence[str] | None, prefix: str, count: int
) -> list[str]:
    """Return one name for each row, all different."""
    if names is None:
        return [f"{prefix}{row}" for row in range(count)]
    if isinstance(names, str) or len(names) != count:
        raise fail(owner, f"{argument} as {count} names, one for each row", shown(names))

    texts = [str(name) for name in names]
    twice = [text for text, number in Counter(texts).items() if number > 1]
    if twice:
        raise ValueError(f"{owner}: {argument} has {shown(twice[0])} twice; give each row its own.")
    return texts


def _matches(
    identities: IdentityMatches, names: tuple[list[str], list[str]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the valid matches of each query."""
    query_names, gallery_names = names
    for start, stop in identities.query_ranges(len(query_names)):
        pairs = identities.pairs(start, stop)
        for number in range(stop - start):
            part = slice(pairs.begin[number], pairs.begin[number + 1])
            rows = pairs.rows[part][pairs.valid[part]]
            yield query_names[start + number], [gallery_names[row] for row in rows]


def _ranked_lists(
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    identities: IdentityMatches,
    names: tuple[list[str], list[str]],
    distance: Distance,
    k: int,
) -> Iterator[RankedList]:
    """Yield the first items of each query, a block of queries at a time."""
    query_names, gallery_names = names
    gallery_parts = split_rows(gallery.block(0, len(gallery)), distance)
    step = max(1, _CELLS // len(gallery))

    for start, stop in identities.query_ranges(step):
        similarity = _similarities(queries.block(start, stop), gallery_parts, distance)
        similarity[:, identities.junk_rows] = -np.inf
        pairs = identities.pairs(start, stop)
        similarity[pairs.query[~pairs.valid], pairs.rows[~pairs.valid]] = -np.inf
        is_match = np.zeros(similarity.shape, dtype=bool)
        is_match[pairs.query[pairs.valid], pairs.rows[pairs.valid]] = True

        for number in range(stop - start):
            rows = _nearest(similarity[number], is_match[number], k)
            found = [gallery_names[row] for row in rows]
            yield RankedList(query_names[start + number], found, similarity[number, rows])


def _similarities(
    queries: Tensor, gallery: SplitRows, distance: Distance
) -> npt.NDArray[np.float64]:
    """Return the exact similarities (Q, G) of a block of queries."""
    parts = split_rows(queries, distance)
    products = all_products(parts, gallery)
    values: npt.NDArray[Any] = combine_products(products, parts, gallery, distance).cpu().numpy()
    return values


def _nearest(
    similarity: npt.NDArray[np.float64], is_match: npt.NDArray[np.bool_], k: int
) -> npt.NDArray[np.int64]:
    """Return the first k rows, of ties the non-matches first, without those at -inf."""
    rows = np.flatnonzero(similarity > -np.inf)
    if len(rows) > k:
        least = np.partition(similarity, -k)[-k]
        rows = rows[similarity[rows] >= least]

    order = np.lexsort([rows, is_match[rows], -similarity[rows]])
    nearest: npt.NDArray[np.int64] = rows[order[:k]]
    return nearest
