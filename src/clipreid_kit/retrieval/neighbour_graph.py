"""The nearest other images of every image of a gallery."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import inverse_norms
from clipreid_kit.metrics._engine.nearest_neighbours import nearest_others
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace, check_sets
from clipreid_kit.retrieval.search_result import clamp_cosines

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

_ROWS = 1 << 14  # rows that are read at once
_PAIRS = 1 << 14  # pairs whose similarities are computed at once


@dataclass(frozen=True, eq=False)
class NeighbourGraph:
    """The nearest other images of every image.

    They are those of the largest exact cosine similarity, and among equals those that were added
    first.

    Attributes:
        keys: (N,), keys of the images.
        neighbours: (N, K), positions of their neighbours in ``keys``, nearest first.
        similarities: (N, K), cosine similarities in float64, in [-1, 1].
    """

    keys: IntArray
    neighbours: Int32Array
    similarities: FloatArray


def neighbour_graph(
    keys: IntArray, rows: IntArray, vectors: Callable[[IntArray], Tensor], count: int
) -> NeighbourGraph:
    """Find the nearest other rows of some rows, among these.

    Args:
        keys: (N,), key of every row.
        rows: (N,), ascending.
        vectors: Returns embeddings by row.
        count: Neighbours of a row; fewer if there are fewer other rows.
    """
    count = min(count, max(len(rows) - 1, 0))
    if count == 0:
        nothing = np.empty((len(rows), 0))
        return NeighbourGraph(keys, nothing.astype(np.int32), nothing)

    embeddings = torch.cat([vectors(rows[part]) for part in _parts(len(rows))])
    (checked,) = check_sets("GalleryIndex.neighbours", ("embeddings",), (embeddings,))
    nearest, _ = nearest_others(SimilaritySpace([checked], "cosine"), count)

    inverse = inverse_norms(checked.norms(0, len(rows)))
    neighbours = nearest.numpy()
    similarities = np.empty((len(rows), count))
    for part in _parts(len(rows), _PAIRS // count):
        similarity = _cosines(embeddings, inverse, part, neighbours[part])
        order = np.lexsort((neighbours[part], -similarity))
        neighbours[part] = np.take_along_axis(neighbours[part], order, axis=1)
        similarities[part] = clamp_cosines(np.take_along_axis(similarity, order, axis=1))
    return NeighbourGraph(keys, neighbours.astype(np.int32), similarities)


def _cosines(embeddings: Tensor, inverse: Tensor, part: slice, neighbours: IntArray) -> FloatArray:
    """Return the cosines of some rows with their neighbours, in float64."""
    nearest = torch.from_numpy(neighbours)
    own = embeddings[part].double() * inverse[part, None]
    products = torch.einsum("nd,nkd->nk", own, embeddings[nearest].double())
    cosines: FloatArray = products.mul_(inverse[nearest]).numpy()
    return cosines


def _parts(count: int, step: int = _ROWS) -> list[slice]:
    step = max(step, 1)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
