"""The nearest other rows of every row of a gallery, by exact similarity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipreid_kit.retrieval.exact.certified_search import nearest_rows
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows
from clipreid_kit.retrieval.exact.row_source import RowSource

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
    sources: Sequence[RowSource], keys: IntArray, is_chosen: BoolArray, count: int
) -> NeighbourGraph:
    """Find the nearest other rows of some rows, among these; memory is that of the result.

    Args:
        sources: Where the rows are.
        keys: (N,), key of every row.
        is_chosen: (N,), the rows.
        count: Neighbours of a row; fewer if there are fewer other rows.
    """
    rows = np.flatnonzero(is_chosen)
    count = min(count, max(len(rows) - 1, 0))
    neighbours = np.empty((len(rows), count), dtype=np.int32)
    similarities = np.empty((len(rows), count))
    position_of = np.cumsum(is_chosen) - 1

    gallery = GalleryRows(sources)
    for start in range(0, len(rows), _QUERIES):
        if count == 0:
            break
        part = slice(start, start + _QUERIES)
        queries = gallery.take(rows[part])
        found, similarity = nearest_rows(queries, sources, count + 1, is_chosen)

        is_other = _without_self(found, rows[part])
        neighbours[part] = position_of[found[is_other]].reshape(-1, count)
        similarities[part] = similarity[is_other].reshape(-1, count)
    return NeighbourGraph(keys[rows], neighbours, similarities)


def _without_self(found: IntArray, rows: IntArray) -> BoolArray:
    """Mark all found rows but the row itself, or the last one where copies have displaced it."""
    is_other: BoolArray = found != rows[:, None]
    is_other[is_other.all(axis=1), -1] = False
    return is_other
