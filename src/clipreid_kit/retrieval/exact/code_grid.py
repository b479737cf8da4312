"""Unit rows as 8-bit codes, and bounds on the similarities that the codes give.

A code c and a grid of mean m and step s for each dimension give the row m + s c. How far the unit
row x is from it, and the norm of c, are measured when rows are encoded, so the bound follows from
the data. Derivation: docs/components/retrieval_engines.md.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._similarity.code_product import LARGEST, OFFSET, Codes

FloatArray = npt.NDArray[np.float64]
PerQuery = FloatArray | np.float64  # (Q,), or a number for a single query

_U32 = 2.0**-24  # unit roundoff
_SLACK = 1e-9  # more than all float64 arithmetic here can be wrong by


class CodeGrid(NamedTuple):
    """Grid of the codes: code c of dimension d is the coordinate ``mean[d] + step[d] * c``.

    Attributes:
        mean: (D,), float32.
        step: (D,), float32, at least 0.
    """

    mean: Tensor
    step: Tensor


class EncodedRows(NamedTuple):
    """Codes of some rows, and what the bound needs to know of each.

    Attributes:
        codes: (N, D), whole numbers from -127 to 127, stored with 128 added.
        residuals: (N,), upper bounds of the distances of unit rows from the rows of their codes.
        code_norms: (N,), upper bounds of the norms of rows of codes.
    """

    codes: Codes
    residuals: FloatArray
    code_norms: FloatArray


class CodedQuery(NamedTuple):
    """A query, or several, as whole numbers.

    Attributes:
        numbers: (D,) or (Q, D), whole numbers, float32.
        scale: Fast similarity of the product 1.
        offset: Fast similarity of the product 0.
        rounding: Distance of the query, in steps of the grid, from its whole numbers.
    """

    numbers: npt.NDArray[np.float32]
    scale: PerQuery
    offset: PerQuery
    rounding: PerQuery

    def similarities(self, products: npt.NDArray[np.float32]) -> FloatArray:
        """Return the fast similarities of products of codes with whole numbers: (N,) or (N, Q)."""
        return self.offset + self.scale * products.astype(np.float64)

    def error(self, residual: float, code_norm: float) -> PerQuery:
        """Bound the distance of fast similarities from the exact ones."""
        return residual + self.rounding * code_norm + _SLACK


def fit_grid(lowest: Tensor, highest: Tensor) -> CodeGrid:
    """Return the grid that covers all coordinates of unit rows.

    Args:
        lowest: (D,), the lowest coordinate of each dimension.
        highest: (D,), the highest one.
    """
    mean = ((lowest + highest) / 2).float()
    step = ((highest - lowest) / (2 * LARGEST)).float()
    return CodeGrid(mean, step)


def encode_rows(unit: Tensor, grid: CodeGrid) -> EncodedRows:
    """Encode unit rows (N, D), and measure what their codes lose.

    Args:
        unit: Unit rows rounded to float32, each coordinate by at most three roundings.
        grid: The grid.
    """
    rows, mean, step = unit.numpy(), grid.mean.numpy(), grid.step.numpy()
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step > 0)

    # numpy: torch wakes its threads for each of these small steps
    numbers = rows - mean
    numbers *= inverse
    np.rint(numbers, out=numbers)
    np.clip(numbers, -LARGEST, LARGEST, out=numbers)
    code_norms = np.sqrt(np.einsum("nd,nd->n", numbers, numbers)).astype(np.float64)
    codes = (numbers + OFFSET).astype(np.uint8)

    numbers *= step
    numbers += mean
    numbers -= rows
    residuals = np.sqrt(np.einsum("nd,nd->n", numbers, numbers)).astype(np.float64)

    # the norms are sums of D squares in float32; the differences round numbers of these sizes
    relative = 1 + (unit.shape[1] + 8) * 2 * _U32
    sizes = 2 + float(grid.mean.double().norm()) + LARGEST * float(grid.step.double().norm())
    return EncodedRows(codes, residuals * relative + 4 * _U32 * sizes, code_norms * relative)


def encode_query(unit: Tensor, grid: CodeGrid, largest: int = LARGEST) -> CodedQuery:
    """Write a unit query in whole numbers for products with codes.

    Args:
        unit: (D,), float64, or (Q, D) for several.
        grid: Grid of the codes.
        largest: The largest whole number.
    """
    query = unit.numpy()
    in_steps = query * grid.step.numpy()
    scale = np.abs(in_steps).max(axis=-1) / largest
    scale = np.where(scale > 0, scale, 1.0)
    numbers = np.rint(in_steps / scale[..., None])

    rounding = np.linalg.norm(in_steps - scale[..., None] * numbers, axis=-1)
    offset = query @ grid.mean.numpy().astype(np.float64)
    return CodedQuery(numbers.astype(np.float32), scale, offset, rounding)
