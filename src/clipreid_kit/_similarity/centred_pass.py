"""Cosines by one float32 product of differences from a common centre, with a proven bound.

Where all rows share a large part, a float32 product of the rows themselves loses what tells them
apart. For any centre c, with unit rows q and x,

    q . x = (q - c) . (x - c) + c . x + (c . q - |c|^2),

so only the differences are rounded, and the bound falls with their norms. c . x is one more column
of the gallery, and the last term moves the window of a query. Derivation: docs/design/evaluator.md.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.exact_similarity import float64_chunks
from clipreid_kit._similarity.float32_pass import (
    has_extreme_norms,
    inverse_norms,
    product_error_bound,
    round_outward,
    scale_rows,
)
from clipreid_kit._similarity.rescore import float64_error_bound

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_MAX_ELEMENTS = 1 << 24  # of a tile: its copy takes 64 MB
_PAYS_FROM = 0.5  # largest distance from the centre for which the rows are centred
_SAMPLE = 256  # rows that may show that others need not be looked at


class CentredWindows(NamedTuple):
    """Bounds on exact similarities, from some queries' fast values with a centred tile.

    Attributes:
        shifts: (Q,), what the fast values of each query lack.
        errors: (Q,), how far they may be from the exact ones beyond that.
    """

    shifts: FloatArray
    errors: FloatArray

    def windows(
        self, similarities: FloatArray, query: IntArray
    ) -> tuple[Float32Array, Float32Array]:
        """Return the fast values that items as near as these float64 values may have.

        Args:
            similarities: Similarities in float64, exact or as :class:`Float64Scorer` returns them.
            query: The query of each.

        Returns:
            The lowest value of each window, and the first value beyond it.
        """
        return round_outward(similarities - self.shifts[query], self.errors[query])


class CentredTile:
    """A tile of the gallery, prepared for products of differences from the mean; cosine only.

    Rows that are spread are only scaled to norm 1: there is nothing to be won.

    Args:
        gallery: Rows of the tile, N >= 1.
        norms: Their norms, float64.
    """

    def __init__(self, gallery: Tensor, norms: Tensor) -> None:
        self._center = torch.zeros(gallery.shape[1], dtype=torch.float64, device=gallery.device)
        self._radius, self._middle, self._reach = 1.0, 0.0, 0.0

        factors = inverse_norms(norms)
        self.is_centred = not _is_spread(gallery, factors) and self._find_center(gallery, factors)
        if self.is_centred:
            self._gallery = self._differences(gallery, factors)
        else:
            self._gallery = _unit_rows(gallery, norms)

    def multiply(self, queries: Tensor, norms: Tensor, out: Tensor) -> CentredWindows:
        """Write the fast values of the queries with the whole tile into ``out``."""
        dim = queries.shape[1]
        factors = inverse_norms(norms)
        shape = len(queries), self._gallery.shape[1]
        rows = torch.ones(shape, dtype=torch.float32, device=queries.device)
        radius, along = torch.empty_like(norms), torch.empty_like(norms)
        for part, values in float64_chunks(queries):
            values.mul_(factors[part, None])
            along[part] = values @ self._center
            rows[part, :dim] = values.sub_(self._center)
            radius[part] = torch.linalg.vector_norm(values, dim=1)

        with torch.autocast(rows.device.type, enabled=False):
            torch.mm(rows, self._gallery.T, out=out)

        largest = (radius * self._radius + self._reach).cpu().numpy()
        errors = product_error_bound(dim + 1) * largest + _float64_slack(dim)
        shifts = (along - self._center.square().sum() + self._middle).cpu().numpy()
        return CentredWindows(shifts, errors)

    def _find_center(self, gallery: Tensor, factors: Tensor) -> bool:
        """Find the mean of all unit rows, and return whether centring pays."""
        center = torch.zeros_like(self._center)
        for part, values in float64_chunks(gallery):
            center += values.mul_(factors[part, None]).sum(dim=0)
        center /= len(gallery)

        # the largest |x - c|, and the range of c . x, over all unit rows x
        radius, lowest, highest = 0.0, np.inf, -np.inf
        for part, values in float64_chunks(gallery):
            along = values.mul_(factors[part, None]) @ center
            lowest, highest = min(lowest, float(along.min())), max(highest, float(along.max()))
            norms = torch.linalg.vector_norm(values.sub_(center), dim=1)
            radius = max(radius, float(norms.max()))

        if radius > _PAYS_FROM:
            return False

        self._center, self._radius = center, radius
        self._middle, self._reach = (lowest + highest) / 2, (highest - lowest) / 2
        return True

    def _differences(self, gallery: Tensor, factors: Tensor) -> Tensor:
        """Return the rows less the centre, with one more column for c . x."""
        count, dim = gallery.shape
        result = torch.empty(count, dim + 1, dtype=torch.float32, device=gallery.device)
        for part, values in float64_chunks(gallery):
            values.mul_(factors[part, None])
            result[part, dim] = (values @ self._center).sub_(self._middle).float()
            result[part, :dim] = values.sub_(self._center)
        return result


def _is_spread(gallery: Tensor, factors: Tensor) -> bool:
    """Return whether some of the rows alone are too far apart for any centre to pay.

    Their mean distance from their own mean is below that from any other point, all squared.
    """
    step = -(-len(gallery) // _SAMPLE)
    rows = gallery[::step].double() * factors[::step, None]
    from_mean = rows - rows.mean(dim=0)
    squared_distance = from_mean.square().sum(dim=1)
    return float(squared_distance.mean()) > _PAYS_FROM**2


def _unit_rows(gallery: Tensor, norms: Tensor) -> Tensor:
    """Return rows of norm 1 in float32; extreme norms leave its range, so they need float64."""
    if has_extreme_norms(norms):
        return scale_rows(gallery, inverse_norms(norms))
    rows = gallery.to(torch.float32, copy=True)
    return rows.mul_(inverse_norms(norms).float()[:, None])


def may_be_centred(gallery: Tensor) -> bool:
    """Return whether a tile is small enough for the copy that centring needs."""
    return gallery.numel() <= _MAX_ELEMENTS


def _float64_slack(dim: int) -> float:
    """Bound what float64 arithmetic adds: to the fast values, and to the score of a match."""
    return (12 * dim + 40) * 2.0**-53 + float64_error_bound(dim) + 1e-30
