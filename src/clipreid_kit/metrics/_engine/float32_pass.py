"""Similarities by one float32 matrix product, and where they may lie: a bound that is proven.

A tile holds some rows of the gallery. ``block`` gives the fast values of some queries with the whole tile, and
``edges`` says, for an exact similarity s, between which fast values an item of similarity s must have got: what lies
outside is certainly above or below. Derivation: docs/design/evaluator.md.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics._engine.candidate_pairs import INFINITY
from clipreid_kit.metrics._engine.exact_similarity import Distance, double_chunks

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
_U32, _U64 = 2.0**-24, 2.0**-53  # unit roundoff
_TINY = 1e-20  # more than all underflow can add up to, for rows of norm 1e-15 to 1e15
# inputs of a float32 matmul may be rounded first, by the global precision that the caller's program has chosen
_INPUT_ROUNDING = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-7}
_NEARLY_ONE = 4e-6  # norms this near to 1 are not divided by: the bound pays


class Float32Tile:
    """A tile of the gallery for products in float32.

    For ``"euclidean"`` the fast value is q.g - |g|^2 / 2 of rows scaled by a power of two: it falls with the distance.

    Args:
        gallery: Rows of the tile, N >= 1.
        norms: Their norms, float64.
        distance: ``"cosine"`` or ``"euclidean"``.
        reach: The largest norm of a query.
    """

    dtype = torch.float32
    scale: float | None = None  # of the rows; None: every row is divided by its own norm

    def __init__(self, gallery: Tensor, norms: Tensor, distance: Distance, reach: float) -> None:
        self.error = accumulation(gallery.shape[1]) + _TINY
        self._factor: Tensor | None = None
        self._offset: Tensor | None = None
        if distance == "euclidean":
            # a power of two such that no norm exceeds 1: nothing overflows and nothing rounds
            largest = max(reach, float(norms.max()))
            self.scale = 2.0 ** -math.ceil(math.log2(largest)) if largest > 0 else 1.0
            self.gallery = scaled(gallery, torch.full_like(norms, self.scale))
            self._offset = (-0.5 * (norms * self.scale).square()).float()
            return
        away = float((norms - 1).abs().max())
        if away <= _NEARLY_ONE:
            self.error += 1.01 * away
            self.gallery = gallery.float()
        elif bool(((norms < 1e-15) & (norms > 0)).any() | (norms > 1e15).any()):
            self.gallery = scaled(gallery, inverse(norms))
        else:
            self.gallery = gallery.float()
            self._factor = inverse(norms).float()

    def block(self, queries: Tensor, norms: Tensor, out: Tensor) -> None:
        """Write the fast values of the queries with the whole tile into ``out``."""
        factors = inverse(norms) if self.scale is None else torch.full_like(norms, self.scale)
        rows = scaled(queries, factors)
        with torch.autocast(rows.device.type, enabled=False):
            torch.mm(rows, self.gallery.T, out=out)
        if self._factor is not None:
            out.mul_(self._factor)
        if self._offset is not None:
            out.add_(self._offset)

    def windows(self, scores: FloatArray) -> tuple[Float32Array, Float32Array]:
        """Fast values of items that may be as near as a score in float64: from, and below."""
        return outward(scores, self.error)

    def of_exact(self, scores: FloatArray, norms: FloatArray) -> FloatArray:
        """Fast values of exact similarities to queries with these norms, if nothing were rounded."""
        return (
            scores
            if self.scale is None
            else 0.5 * ((norms * self.scale) ** 2 + scores * self.scale**2)
        )


def outward(scores: FloatArray, errors: FloatArray | float) -> tuple[Float32Array, Float32Array]:
    """float32 numbers just outside ``scores - errors`` and ``scores + errors``."""
    low, beyond = (scores - errors).astype(np.float32), (scores + errors).astype(np.float32)
    return np.nextafter(low, -INFINITY), np.nextafter(beyond, INFINITY)


def accumulation(dim: int) -> float:
    """Bound on the error of a float32 inner product of a unit row with a row that is divided by its norm."""
    growth = (dim + 2) * _U32 / (1 - (dim + 2) * _U32)
    rounding = _input_rounding()
    return 1.01 * (growth + 4 * _U32 + rounding * (2 + rounding) + 8 * dim * _U64)


def scaled(rows: Tensor, factors: Tensor) -> Tensor:
    """Rows times factors in float64, rounded to float32, without a float64 copy of the whole."""
    result = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for part, values in double_chunks(rows):
        result[part] = values.mul_(factors[part, None])
    return result


def inverse(norms: Tensor) -> Tensor:
    """1 / norm; 0 for a row of zeros, whose cosine with everything is 0."""
    return torch.where(norms > 0, 1 / norms, 0.0)


def _input_rounding() -> float:
    try:
        return _INPUT_ROUNDING[torch.get_float32_matmul_precision()]
    except (
        RuntimeError
    ):  # the program has set the precision of single backends, and torch does not say which
        return _INPUT_ROUNDING["medium"]
