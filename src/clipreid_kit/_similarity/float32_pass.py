"""Similarities by one float32 matrix product, with a proven bound on their error.

A tile holds some rows of the gallery. ``multiply`` writes the fast values of some queries with the
whole tile. For an exact similarity s, ``windows`` returns the range of fast values that an item of
similarity s may have: items outside are certainly above or below. Derivation:
docs/design/evaluator.md.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.exact_similarity import Distance, float64_chunks

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

INFINITY = np.float32(np.inf)
_U32, _U64 = 2.0**-24, 2.0**-53  # unit roundoff
_UNDERFLOW = 1e-20  # more than all underflow can add up to, for rows of norm 1e-15 to 1e15
_NEARLY_ONE = 4e-6  # norms this close to 1 are not divided by: the bound is widened instead
_FLAT, _PANEL = 128, 1024  # rows, and gallery rows, of a product that is divided
# the program may have chosen a lower global precision for the inputs of float32 products
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-7}


class Float32Tile:
    """A tile of the gallery, prepared for products in float32.

    For ``"euclidean"`` the fast value is q.g - |g|^2 / 2 of rows scaled by a power of two: it falls
    as the distance grows.

    Args:
        gallery: Rows of the tile, N >= 1.
        norms: Their norms, float64.
        distance: ``"cosine"`` or ``"euclidean"``.
        largest_query_norm: The largest norm of a query.
    """

    dtype = torch.float32
    scale: float | None = None  # of the rows; None: every row is divided by its own norm

    def __init__(
        self, gallery: Tensor, norms: Tensor, distance: Distance, largest_query_norm: float
    ) -> None:
        self.error = product_error_bound(gallery.shape[1]) + _UNDERFLOW
        self._factor: Tensor | None = None
        self._offset: Tensor | None = None

        if distance == "euclidean":
            # a power of two such that no norm exceeds 1: nothing overflows and nothing is rounded
            largest = max(largest_query_norm, float(norms.max()))
            self.scale = 2.0 ** -math.ceil(math.log2(largest)) if largest > 0 else 1.0
            self.gallery = scale_rows(gallery, torch.full_like(norms, self.scale))
            self._offset = (-0.5 * (norms * self.scale).square()).float()
            return

        distance_from_one = float((norms - 1).abs().max())
        if distance_from_one <= _NEARLY_ONE:
            self.error += 1.01 * distance_from_one
            self.gallery = gallery.float()
        elif has_extreme_norms(norms):
            self.gallery = scale_rows(gallery, inverse_norms(norms))
        else:
            self.gallery = gallery.float()
            self._factor = inverse_norms(norms).float()

    def multiply(self, queries: Tensor, norms: Tensor, out: Tensor) -> None:
        """Write the fast values of the queries with the whole tile into ``out``."""
        factors = inverse_norms(norms)
        if self.scale is not None:
            factors = torch.full_like(norms, self.scale)

        rows = scale_rows(queries, factors)
        multiply_rows(rows, self.gallery, out)

        if self._factor is not None:
            out.mul_(self._factor)
        if self._offset is not None:
            out.add_(self._offset)

    def windows(self, similarities: FloatArray) -> tuple[Float32Array, Float32Array]:
        """Return the fast values that items as near as these float64 values may have.

        Returns:
            The lowest value of each window, and the first value beyond it.
        """
        return round_outward(similarities, self.error)

    def unrounded_values(self, similarities: FloatArray, norms: FloatArray) -> FloatArray:
        """Return what exact similarities would be as fast values, were nothing rounded.

        Args:
            similarities: Exact similarities.
            norms: Norm of the query of each.
        """
        if self.scale is None:
            return similarities
        values: FloatArray = 0.5 * ((norms * self.scale) ** 2 + similarities * self.scale**2)
        return values


def multiply_rows(rows: Tensor, gallery: Tensor, out: Tensor) -> None:
    """Write the products of all rows with all gallery rows, in the precision that the bounds hold.

    On a CPU, few rows are multiplied with a part of the gallery at a time: BLAS keeps that part in
    the cache, and is up to 1.4 times as fast.
    """
    is_flat = rows.device.type == "cpu" and 1 < len(rows) <= _FLAT
    width = _PANEL if is_flat else len(gallery)
    with torch.autocast(rows.device.type, enabled=False):
        for start in range(0, len(gallery), max(1, width)):
            part = slice(start, start + width)
            torch.mm(rows, gallery[part].T, out=out[:, part])


def round_outward(
    values: FloatArray, errors: FloatArray | float
) -> tuple[Float32Array, Float32Array]:
    """Return float32 numbers just outside ``values - errors`` and ``values + errors``."""
    low = (values - errors).astype(np.float32)
    beyond = (values + errors).astype(np.float32)
    return np.nextafter(low, -INFINITY), np.nextafter(beyond, INFINITY)


def product_error_bound(dim: int) -> float:
    """Bound the error of a float32 inner product of a unit row and a row divided by its norm."""
    growth = (dim + 2) * _U32 / (1 - (dim + 2) * _U32)
    rounding = _input_rounding()
    return 1.01 * (growth + 4 * _U32 + rounding * (2 + rounding) + 8 * dim * _U64)


def scale_rows(rows: Tensor, factors: Tensor) -> Tensor:
    """Multiply rows by factors in float64 and round to float32, a chunk of rows at a time."""
    result = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for part, values in float64_chunks(rows):
        result[part] = values.mul_(factors[part, None])
    return result


def inverse_norms(norms: Tensor) -> Tensor:
    """Return 1 / norm, and 0 for a zero row, whose cosine with everything is 0."""
    return torch.where(norms > 0, 1 / norms, 0.0)


def has_extreme_norms(norms: Tensor) -> bool:
    """Return whether a norm other than 0 is below 1e-15 or above 1e15."""
    return bool(((norms < 1e-15) & (norms > 0)).any() | (norms > 1e15).any())


def _input_rounding() -> float:
    try:
        return _INPUT_ROUNDING[torch.get_float32_matmul_precision()]
    except RuntimeError:
        # the program has set the precision of single backends, and torch does not say which
        return _INPUT_ROUNDING["medium"]
