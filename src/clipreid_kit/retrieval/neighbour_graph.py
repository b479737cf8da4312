"""The nearest other rows of every row of a gallery, by exact similarity."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit.retrieval.search_forms import Searcher

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_QUERIES = 256  # rows whose neighbours are searched together


@dataclass(frozen=True, eq=False)
class NeighbourGraph:
    """The nearest other images of every image, by exact cosine similarity.

    Attributes:
        keys: (N,), keys of the images.
        neighbours: (N, K), positions of their neighbours in ``keys``, nearest first; among equals
            the image that was added first.
        similarities: (N, K), exact cosine similarities.
    """

    keys: IntArray
    neighbours: Int32Array
    similarities: FloatArray


def neighbour_graph(
    keys: IntArray,
    rows: IntArray,
    vectors: Callable[[IntArray], Tensor],
    search: Searcher,
    count: int,
) -> NeighbourGraph:
    """Find the nearest other rows of some rows, among these; memory is that of the result.

    Args:
        keys: (N,), key of every row.
        rows: (N,), ascending.
        vectors: Returns embeddings by row.
        search: Finds the nearest ones among these rows.
        count: Neighbours of a row; fewer if there are fewer other rows.
    """
    count = min(count, max(len(rows) - 1, 0))
    neighbours = np.empty((len(rows), count), dtype=np.int32)
    similarities = np.empty((len(rows), count))
    if count == 0:
        return NeighbourGraph(keys, neighbours, similarities)

    for start in range(0, len(rows), _QUERIES):
        part = slice(start, start + _QUERIES)
        found = search(vectors(rows[part]), count + 1)
        is_other = _without_self(found.rows, rows[part])
        positions = np.searchsorted(rows, found.rows[is_other])
        neighbours[part] = positions.reshape(-1, count)
        similarities[part] = found.similarities[is_other].reshape(-1, count)
    return NeighbourGraph(keys, neighbours, similarities)


def _without_self(found: IntArray, rows: IntArray) -> BoolArray:
    """Mark all found rows but the row itself, or the last one where copies have displaced it."""
    is_other: BoolArray = found != rows[:, None]
    is_other[is_other.all(axis=1), -1] = False
    return is_other
