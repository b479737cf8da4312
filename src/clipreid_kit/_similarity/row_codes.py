"""Rows in 8 bits, and a bound on what products of two of them lose."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]

_ROUNDING = 2.0**-21  # more than float32 loses where it measures rows of norm 1
_UNIT_NORM = 1 + 2.0**-20  # more than the norm of a unit row in float32


class RowNumbers(NamedTuple):
    """Rows as whole numbers times one scale.

    Attributes:
        numbers: (N, D), whole numbers, float32.
        scale: The scale, a float32 number.
        residuals: (N,), upper bounds of the distances of the rows from numbers times scale.
    """

    numbers: Tensor
    scale: float
    residuals: FloatArray


def whole_numbers(rows: Tensor, largest: int) -> RowNumbers:
    """Write unit rows (N, D), float32, as whole numbers up to ``largest``."""
    size = float(rows.abs().max())
    scale = float(np.float32(size / largest)) if size > 0 else 1.0
    numbers = (rows / scale).round_().clamp_(-largest, largest)

    lost = torch.linalg.vector_norm(numbers * scale - rows, dim=1, dtype=torch.float64)
    return RowNumbers(numbers, scale, lost.numpy() + _ROUNDING)


def error_bounds(residuals: FloatArray | float, others: FloatArray | float) -> FloatArray:
    """Bound the error of products of rows with others, both as whole numbers.

    For unit rows x and y, of which the numbers give x' and y':
    ``x.y - x'.y' = (x - x').y + x'.(y - y')``, with ``|x'| <= 1 + |x - x'|``.

    Args:
        residuals: (N,), of the rows, or that of one.
        others: Of the others, or of one.
    """
    return np.asarray(residuals * _UNIT_NORM + (_UNIT_NORM + residuals) * others)
