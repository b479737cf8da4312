"""Search by an approximate structure: over-fetch, filter, and score exactly what is left."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.rescore import Float64Scorer
from clipreid_kit.retrieval.exact.candidates import exact_pairs
from clipreid_kit.retrieval.exact.certified_search import nearest_rows
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows
from clipreid_kit.retrieval.exact.row_source import RowSource
from clipreid_kit.retrieval.search_forms import Found, Searcher
from clipreid_kit.retrieval.store.approximate_file import ApproximateFile

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_FACTOR = 3  # candidates of codes for each row that is asked for
_SPARE = 32  # and further ones
_FEW_SPARE = 8  # further candidates where a structure compares whole rows
_RARE = 8  # where fewer than one row in so many may be found, these are searched exactly
_CHUNK = 1 << 22  # elements of candidates that are scored at once


def approximate_searcher(
    structure: ApproximateFile, sources: Sequence[RowSource], allowed: BoolArray | None
) -> Searcher:
    """Return a function that finds about the nearest rows, with exact similarities.

    Rows that were added after the structure was built are searched exactly. Where most rows may not
    be found, or the structure returns too few that may, all rows are searched exactly.

    Args:
        structure: It holds the first rows.
        sources: Where all rows are.
        allowed: For each row, whether it may be found; ``None`` for all of them.
    """
    gallery = GalleryRows(sources)
    num_rows = structure.num_rows
    head = None if allowed is None else allowed[:num_rows]
    num_head = num_rows if head is None else int(head.sum())
    num_tail = gallery.num_rows - num_rows if allowed is None else int(allowed[num_rows:].sum())

    def find_exactly(queries: Tensor, count: int) -> Found:
        return Found(*nearest_rows(queries, sources, count, allowed))

    def find(queries: Tensor, count: int) -> Found:
        if num_head * _RARE < num_rows:
            return find_exactly(queries, count)

        wanted = min(count, num_head)
        rows = _candidates(structure, queries, wanted, head, num_head)
        is_short = (rows >= 0).sum(axis=1) < wanted
        if num_tail:
            in_tail = np.ones(gallery.num_rows, dtype=bool) if allowed is None else allowed.copy()
            in_tail[:num_rows] = False
            tail = nearest_rows(queries, sources, count, in_tail)[0]
            rows = np.concatenate([rows, tail], axis=1)
        found = nearest_of(queries, rows, gallery, min(count, num_head + num_tail))

        short = np.flatnonzero(is_short)
        if len(short):
            exact = find_exactly(queries[torch.from_numpy(short)], count)
            found.rows[short], found.similarities[short] = exact
        return found

    return find


def _candidates(
    structure: ApproximateFile,
    queries: Tensor,
    wanted: int,
    allowed: BoolArray | None,
    num_allowed: int,
) -> IntArray:
    """Return rows near to each query that may be found; -1 in between and behind."""
    num_candidates = _FACTOR * wanted + _SPARE
    if structure.has_whole_rows:
        num_candidates = wanted + _FEW_SPARE

    # The structure does not filter: ask for more, so that about enough are left.
    share_allowed = num_allowed / structure.num_rows
    count = min(structure.num_rows, int(num_candidates / share_allowed))

    while True:
        rows = structure.neighbours(queries, count).rows
        if allowed is not None:
            rows = np.where((rows >= 0) & allowed[rows], rows, -1)

        fewest = (rows >= 0).sum(axis=1).min(initial=wanted)
        if fewest >= wanted or 2 * count > structure.num_rows:
            return rows

        count = min(4 * count, structure.num_rows)


def nearest_of(queries: Tensor, rows: IntArray, gallery: GalleryRows, count: int) -> Found:
    """Return the nearest of some rows to each query, by exact similarity.

    Most candidates are told apart in float64, whose error is bounded; only the nearest and those
    which may be equal to them are scored exactly.

    Args:
        queries: (Q, D).
        rows: (Q, C), the candidates of each query, distinct; -1 for none.
        gallery: Where they are.
        count: How many rows to return; -1 and NaN where there are fewer candidates.
    """
    is_open = rows >= 0
    has_many_candidates = rows.shape[1] > 2 * count > 0
    if has_many_candidates:
        is_open &= _may_be_nearest(queries, rows, gallery, count)

    query, place = np.nonzero(is_open)
    exact = np.full(rows.shape, -np.inf)
    exact[query, place] = exact_pairs(queries, query, gallery.take(rows[query, place]))

    # The largest similarity first; of equals, the lower row.
    order = np.lexsort((rows, -exact))[:, :count]
    chosen = np.take_along_axis(rows, order, axis=1)
    similarities = np.take_along_axis(exact, order, axis=1)

    is_found = np.isfinite(similarities)
    return Found(np.where(is_found, chosen, -1), np.where(is_found, similarities, np.nan))


def _may_be_nearest(queries: Tensor, rows: IntArray, gallery: GalleryRows, count: int) -> BoolArray:
    """Return which candidates (Q, C) may be among the ``count`` nearest of their query."""
    values = np.full(rows.shape, -np.inf)
    errors = np.zeros(rows.shape)

    queries_at_once = max(1, _CHUNK // (rows.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), queries_at_once):
        part = slice(start, start + queries_at_once)
        values[part], errors[part] = _float64_scores(queries[part], rows[part], gallery)

    # So many candidates are at least as near as this, whatever the errors are.
    least_of_nearest = np.partition(values - errors, -count, axis=1)[:, -count, None]
    return values + errors >= least_of_nearest


def _float64_scores(
    queries: Tensor, rows: IntArray, gallery: GalleryRows
) -> tuple[FloatArray, FloatArray]:
    """Return the similarities of candidates in float64, and their errors."""
    values, errors = np.full(rows.shape, -np.inf), np.zeros(rows.shape)
    query, place = np.nonzero(rows >= 0)
    if len(query) == 0:
        return values, errors

    vectors = gallery.take(rows[query, place])
    norms = torch.linalg.vector_norm(vectors.double(), dim=1)
    query_norms = torch.linalg.vector_norm(queries.double(), dim=1)
    scorer = Float64Scorer(queries, query_norms, vectors, norms, "cosine")
    values[query, place], errors[query, place] = scorer(query, np.arange(len(query)))
    return values, errors
