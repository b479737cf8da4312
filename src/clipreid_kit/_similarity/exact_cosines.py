"""Exact cosines of pairs of rows on the CPU: the bits of ``split_rows``, in few short steps.

NumPy does in one thread what torch would wake all threads for, and a search scores few pairs: here
the time of a call is that of its steps. The definition is in ``exact_similarity``.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_CHUNK = 1 << 14  # elements of a temporary: several fit the cache


class SplitArrays(NamedTuple):
    """Rows scaled by powers of two to norms below 1, as sums of two short numbers.

    Attributes:
        high: (N, D), multiples of 2^-26.
        low: (N, D), the rest, on a finer grid.
        norms: (N,), in [0.5, 1), or 0.
    """

    high: FloatArray
    low: FloatArray
    norms: FloatArray


def exact_cosines(queries: Tensor, query: IntArray, gallery: Tensor, rows: IntArray) -> FloatArray:
    """Return the exact cosine of each pair; 0 with a zero row.

    Args:
        queries: (Q, D).
        query: (N,), the query of each pair.
        gallery: (G, D).
        rows: (N,), the row of each pair.
    """
    is_used = np.zeros(len(queries), dtype=bool)
    is_used[query] = True
    split = split_arrays(_take(queries, np.flatnonzero(is_used)))
    own_query = (np.cumsum(is_used) - 1)[query]
    cosines = np.empty(len(rows))
    step = max(1, _CHUNK // gallery.shape[1])

    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        own = own_query[part]
        left = SplitArrays(split.high[own], split.low[own], split.norms[own])
        right = split_arrays(_take(gallery, rows[part]))

        # no sum is rounded, so their order does not matter
        middle = _products(left.high, right.low) + _products(left.low, right.high)
        total = _products(left.high, right.high) + (middle + _products(left.low, right.low))
        norms = left.norms * right.norms
        cosines[part] = total / np.where(norms > 0, norms, 1.0)
    return cosines


def split_arrays(values: FloatArray) -> SplitArrays:
    """Split rows (N, D), which are overwritten, as ``split_rows`` does."""
    dim = values.shape[1]
    grid = 52 - math.ceil(math.log2(dim) / 2)
    coarse, fine = 1.5 * 2.0**26, 1.5 * 2.0 ** (52 - grid)

    size = np.sqrt(_halving_sum(values * values))
    factor = np.ldexp(1.0, -np.frexp(size)[1])
    values *= factor[:, None]

    high = values + coarse
    high -= coarse
    low = np.subtract(values, high, out=values)
    low += fine
    low -= fine
    return SplitArrays(high, low, size * factor)


def _halving_sum(values: FloatArray) -> FloatArray:
    """Sum each row in the order of ``halving_sum``, in place."""
    width = values.shape[1]
    while width > 1:
        half = (width + 1) // 2
        values[:, : width - half] += values[:, half:width]
        width = half
    return values[:, 0]


def _products(first: FloatArray, second: FloatArray) -> FloatArray:
    products: FloatArray = np.einsum("nd,nd->n", first, second)
    return products


def _take(matrix: Tensor, rows: IntArray) -> FloatArray:
    """Return rows in float64, as a copy."""
    taken: FloatArray = matrix.index_select(0, torch.from_numpy(rows)).to(torch.float64).numpy()
    return taken
