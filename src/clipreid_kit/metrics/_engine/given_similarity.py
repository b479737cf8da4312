"""Counted matches by given similarities: rows of a matrix, or a function of two blocks of rows."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit._similarity.as_array import as_array
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.metrics._engine.identity_matches import IdentityMatches
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.match_pairs import MatchPairs
from clipreid_kit.metrics._engine.relevance_lists import RelevanceLists

BlockSimilarity = Callable[[Tensor, Tensor], Tensor]
RowReader = Callable[[int, int], Tensor | npt.NDArray[Any]]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Tile = tuple[int, FloatArray]  # the first gallery row, and similarities (queries, rows)

Nearer = Literal["larger", "smaller"]
"""Whether a larger or a smaller value is nearer: a similarity or a distance."""

# Queries from which, and share of the gallery behind which, matches count as ranked last.
_ENOUGH_QUERIES = 10
_LAST = 0.8

_BLOCK = 1 << 22  # similarities that are compared at once
_STREAMED_TILE = 1 << 16  # gallery rows of a tile, where the gallery is read from a file
_LARGEST_WHOLE = 2.0**53  # from here on float64 cannot tell whole numbers apart


def matches_by_rows(
    owner: str,
    read_rows: RowReader,
    relevance: IdentityMatches | RelevanceLists,
    nearer: Nearer = "larger",
) -> Iterator[MatchCounts]:
    """Count the matches of all queries by similarities that are read for a few queries at a time.

    Args:
        owner: Name of the caller, for error messages.
        read_rows: Returns the similarities of the queries ``start`` to ``stop`` with the gallery.
        relevance: Matches of each query.
        nearer: Whether the larger or the smaller value is nearer.
    """
    width = relevance.num_gallery_rows
    for start, stop in relevance.query_ranges(max(1, _BLOCK // width)):
        values = _to_float64(owner, read_rows(start, stop), (stop - start, width), nearer)
        yield _count(relevance.pairs(start, stop), relevance.junk_rows, [(0, values)])


def matches_by_function(
    owner: str,
    function: BlockSimilarity,
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    relevance: IdentityMatches | RelevanceLists,
    nearer: Nearer = "larger",
) -> Iterator[MatchCounts]:
    """Count the matches of all queries by a function of (query rows, gallery rows)."""
    for start, stop in relevance.query_ranges(max(1, _BLOCK // relevance.num_gallery_rows)):
        tiles = _FunctionTiles(owner, function, queries.block(start, stop), gallery, nearer)
        yield _count(relevance.pairs(start, stop), relevance.junk_rows, tiles)


def warn_if_reversed(
    owner: str, matches: Iterable[MatchCounts], relevance: IdentityMatches | RelevanceLists
) -> Iterator[MatchCounts]:
    """Pass the matches on, and warn if those of most queries are at the end of the ranking.

    That is what distances look like where similarities are expected, and the other way round.
    """
    num_ranked = relevance.num_gallery_rows - len(relevance.junk_rows)
    shares = []

    for part in matches:
        yield part

        num_matches = np.diff(part.begin)
        num_others = np.maximum(num_ranked - num_matches, 1)
        totals = np.bincount(part.query, weights=part.above, minlength=len(num_matches))
        has_match = num_matches > 0
        shares.append((totals[has_match] / num_matches[has_match]) / num_others[has_match])

    share: FloatArray = np.concatenate(shares) if shares else np.empty(0)
    if len(share) >= _ENOUGH_QUERIES and share.mean() > _LAST and np.median(share) > _LAST:
        warnings.warn(
            f"{owner}: on average a match has {100 * share.mean():.0f} % of the other gallery rows "
            "before it. Are these distances given as similarities, or the other way round? "
            'A distance needs nearer="smaller".',
            stacklevel=2,
        )


def _count(pairs: MatchPairs, junk_rows: IntArray, tiles: Iterable[Tile]) -> MatchCounts:
    """Look up the matches in the tiles, and count the non-matches against them."""
    query = pairs.query
    similarities = np.empty(len(query))
    for left, values in tiles:
        inside = (pairs.rows >= left) & (pairs.rows < left + values.shape[1])
        similarities[inside] = values[query[inside], pairs.rows[inside] - left]

    matches = MatchCounts.from_pairs(pairs, similarities)
    if len(matches.similarities) == 0:
        return matches

    for left, values in tiles:
        right = left + values.shape[1]
        inside = (pairs.rows >= left) & (pairs.rows < right)
        is_nonmatch = np.ones(values.shape, dtype=bool)
        is_nonmatch[query[inside], pairs.rows[inside] - left] = False
        is_nonmatch[:, junk_rows[(junk_rows >= left) & (junk_rows < right)] - left] = False

        for i in np.flatnonzero(np.diff(matches.begin)).tolist():
            part = slice(matches.begin[i], matches.begin[i + 1])
            is_nonmatch[i] &= values[i] >= matches.similarities[part].min()
            matches.add(part, matches.similarities[part], values[i][is_nonmatch[i]])

    return matches


class _FunctionTiles:
    """The function's values for some queries: the whole gallery at once, or tiles of a file.

    Iterating again calls the function again with the same tiles, except for a single tile, which is
    kept.
    """

    def __init__(
        self,
        owner: str,
        function: BlockSimilarity,
        queries: Tensor,
        gallery: EmbeddingRows,
        nearer: Nearer,
    ) -> None:
        self.owner = owner
        self.function = function
        self.queries = queries
        self.gallery = gallery
        self.nearer: Nearer = nearer
        self.single_tile: Tile | None = None

    def __iter__(self) -> Iterator[Tile]:
        if self.single_tile is not None:
            yield self.single_tile
            return

        width = _STREAMED_TILE if self.gallery.streamed else len(self.gallery)
        for left in range(0, len(self.gallery), width):
            rows = self.gallery.block(left, min(left + width, len(self.gallery)))
            values = self.function(self.queries, rows)
            shape = self.queries.shape[0], rows.shape[0]
            tile = left, _to_float64(self.owner, values, shape, self.nearer)
            if width == len(self.gallery):
                self.single_tile = tile
            yield tile


def _to_float64(owner: str, values: object, shape: tuple[int, int], nearer: Nearer) -> FloatArray:
    """Check given similarities or distances, and return similarities, as float64."""
    if not isinstance(values, Tensor | np.ndarray):
        expected = "a tensor or array from the function given as similarity"
        raise fail(owner, expected, type(values).__name__)

    numbers, is_whole = _read_numbers(owner, values)
    if numbers.shape != shape:
        expected = f"similarities (queries, gallery) of shape {shape}"
        raise fail(owner, expected, f"shape {numbers.shape}")
    if np.isnan(numbers).any():
        raise ValueError(f"{owner}: similarity holds NaN in {int(np.isnan(numbers).sum())} places.")

    largest = np.abs(numbers).max(initial=0)
    if is_whole and largest >= _LARGEST_WHOLE:
        raise fail(
            owner,
            "whole numbers below 2^53 as similarities",
            f"{largest:g}",
            "Larger ones could not be told apart.",
        )
    return -numbers if nearer == "smaller" else numbers


def _read_numbers(owner: str, values: Tensor | npt.NDArray[Any]) -> tuple[FloatArray, bool]:
    """Return values as float64, and whether their type is that of integers."""
    if isinstance(values, Tensor):
        check_dense(owner, "similarity", values)
        is_real = not values.is_complex()
        is_whole = not values.is_floating_point()
    else:
        values = as_array(owner, "similarity", values)
        is_real = values.dtype.kind in "fiub"
        is_whole = values.dtype.kind in "iub"

    if not is_real or values.dtype.itemsize > 8:
        raise fail(owner, "similarity as real numbers of at most 64 bits", values.dtype)
    if isinstance(values, Tensor):
        return values.double().cpu().numpy(), is_whole
    return values.astype(np.float64), is_whole
