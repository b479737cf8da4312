"""Matches by similarities that the caller gives: a matrix, a re-ranker, or a function of blocks."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit.metrics._engine.embedding_rows import Rows, as_array
from clipreid_kit.metrics._engine.identity_matches import Labels
from clipreid_kit.metrics._engine.match_counts import Matches
from clipreid_kit.metrics._engine.relevance_lists import Lists
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker

BlockSimilarity = Callable[[Tensor, Tensor], Tensor]
FloatArray = npt.NDArray[np.float64]
Tile = tuple[int, FloatArray]  # the first gallery row, and similarities (queries, rows)
_BLOCK = 1 << 22  # similarities that are looked at together
_WHOLE = 2.0**53  # from here on float64 tells whole numbers no longer apart
_TILE = 1 << 16  # gallery rows of a tile, where the gallery is read from a file


def given_matches(
    owner: str,
    similarity: Tensor | npt.NDArray[Any] | KReciprocalReranker | BlockSimilarity,
    queries: Rows | None,
    gallery: Rows | None,
    labels: Labels | Lists,
) -> Iterator[Matches]:
    """Matches of all queries, counted by the given values."""
    if isinstance(similarity, Tensor):
        check_dense(owner, "similarity", similarity)
    for start, stop in labels.parts(max(1, _BLOCK // labels.width)):
        if callable(similarity):
            if queries is None or gallery is None:
                raise fail(owner, "embeddings for the function given as similarity", "none")
            tiles = _Tiles(owner, similarity, queries.block(start, stop), gallery)
            yield _count(labels, start, stop, tiles)
            continue
        if isinstance(similarity, KReciprocalReranker):
            rows: Tensor | npt.NDArray[Any] = similarity.similarity(start, stop)
        else:
            rows = similarity[start:stop]
        yield _count(
            labels, start, stop, [(0, _numbers(owner, rows, (stop - start, labels.width)))]
        )


def _count(labels: Labels | Lists, start: int, stop: int, tiles: Iterable[Tile]) -> Matches:
    pairs = labels.pairs(start, stop)
    query = pairs.query
    scores = np.empty(len(query))
    for left, values in tiles:
        inside = (pairs.rows >= left) & (pairs.rows < left + values.shape[1])
        scores[inside] = values[query[inside], pairs.rows[inside] - left]
    matches = Matches.of(pairs, scores)
    if len(matches.scores) == 0:
        return matches
    for left, values in tiles:
        wrong = np.ones(values.shape, dtype=bool)
        inside = (pairs.rows >= left) & (pairs.rows < left + values.shape[1])
        wrong[query[inside], pairs.rows[inside] - left] = False
        ignored = labels.ignored[
            (labels.ignored >= left) & (labels.ignored < left + values.shape[1])
        ]
        wrong[:, ignored - left] = False
        for i in np.flatnonzero(np.diff(matches.begin)).tolist():
            part = slice(matches.begin[i], matches.begin[i + 1])
            wrong[i] &= values[i] >= matches.scores[part].min()
            matches.add(part, matches.scores[part], values[i][wrong[i]])
    return matches


class _Tiles:
    """The function's values for some queries: the whole gallery at once, or by tiles if it is read from a file.

    Iterating again calls the function again, with the same blocks.
    """

    def __init__(
        self, owner: str, function: BlockSimilarity, queries: Tensor, gallery: Rows
    ) -> None:
        self.owner, self.function, self.queries, self.gallery = owner, function, queries, gallery
        self.only: Tile | None = None

    def __iter__(self) -> Iterator[Tile]:
        if self.only is not None:
            yield self.only
            return
        width = _TILE if self.gallery.streamed else len(self.gallery)
        for left in range(0, len(self.gallery), width):
            rows = self.gallery.block(left, min(left + width, len(self.gallery)))
            values = self.function(self.queries, rows)
            tile = left, _numbers(self.owner, values, (self.queries.shape[0], rows.shape[0]))
            if width == len(self.gallery):
                self.only = tile
            yield tile


def _numbers(owner: str, values: object, shape: tuple[int, int]) -> FloatArray:
    """Given values as float64, which holds any of them."""
    if not isinstance(values, Tensor | np.ndarray):
        remedy = "A re-ranker is made first: similarity=KReciprocalReranker(query_embeddings, gallery_embeddings)."
        raise fail(
            owner,
            "a tensor or array from the function given as similarity",
            type(values).__name__,
            remedy,
        )
    if isinstance(values, Tensor):
        check_dense(owner, "similarity", values)
        whole, kind = not values.is_floating_point(), "c" if values.is_complex() else "f"
    else:
        values = as_array(owner, "similarity", values)
        whole, kind = values.dtype.kind in "iub", values.dtype.kind
    if kind not in "fiub" or values.dtype.itemsize > 8:
        raise fail(owner, "similarity as real numbers of at most 64 bits", f"{values.dtype}")
    numbers = (
        values.double().cpu().numpy() if isinstance(values, Tensor) else values.astype(np.float64)
    )
    if numbers.shape != shape:
        raise fail(
            owner, f"similarities (queries, gallery) of shape {shape}", f"shape {numbers.shape}"
        )
    if np.isnan(numbers).any():
        raise fail(
            owner, "similarities that are numbers", f"NaN in {int(np.isnan(numbers).sum())} places"
        )
    if whole and np.abs(numbers).max(initial=0) >= _WHOLE:
        raise fail(
            owner,
            "whole numbers below 2^53 as similarities",
            f"{np.abs(numbers).max():g}",
            "They would be ties.",
        )
    return numbers
