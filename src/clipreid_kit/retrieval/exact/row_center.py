"""The centre of nearly equal rows, from which their similarities are told apart.

Where all rows share a large part, float32 rounds away what tells them apart. For any centre c, with
unit rows q and x,

    q . x = (q - c) . x + c . x = (q - c) . (x - c) + c . x + c . (q - c).

Only the first product is computed in float32, and its error falls with the norms of the
differences. c . x depends on the row alone, and is kept in float64.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from clipreid_kit._similarity.code_product import LARGEST
from clipreid_kit._similarity.exact_similarity import float64_chunks
from clipreid_kit._similarity.float32_pass import inverse_norms
from clipreid_kit.retrieval.exact.code_grid import CodeGrid

_PAYS_FROM = 0.5  # largest distance of a row from the centre for which one is used
_U32 = 2.0**-24  # unit roundoff


class RowCenter(NamedTuple):
    """The centre of nearly equal unit rows.

    Attributes:
        point: (D,), float64.
        farthest: Upper bound of the distance of a row.
    """

    point: Tensor
    farthest: float


def center_of(grid: CodeGrid) -> RowCenter | None:
    """Return the centre of rows; ``None`` for rows that are spread.

    Args:
        grid: Grid of their codes. It covers all rows, as far as float32 rounds.
    """
    reach = LARGEST * float(torch.linalg.vector_norm(grid.step.double()))
    farthest = (1 + 8 * _U32) * reach + 8 * _U32 * math.sqrt(len(grid.step))
    return RowCenter(grid.mean.double(), farthest) if farthest <= _PAYS_FROM else None


def products_with_center(vectors: Tensor, norms: Tensor, center: RowCenter) -> Tensor:
    """Return the inner products (N,) of unit rows with a centre, float64.

    Args:
        vectors: (N, D), of any norm.
        norms: (N,), float64.
        center: The centre.
    """
    products = torch.empty(len(vectors), dtype=torch.float64, device="cpu")
    for part, values in float64_chunks(vectors):
        torch.mv(values, center.point, out=products[part])
    return products.mul_(inverse_norms(norms))


def differences_from(center: RowCenter, vectors: Tensor, norms: Tensor) -> Tensor:
    """Return the differences of unit rows from a centre, (N, D), rounded to float32."""
    factors = inverse_norms(norms)
    differences = torch.empty(vectors.shape, dtype=torch.float32, device=vectors.device)
    for part, values in float64_chunks(vectors):
        differences[part] = values.mul_(factors[part, None]).sub_(center.point)
    return differences
