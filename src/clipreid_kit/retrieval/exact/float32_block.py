"""Fast similarities of queries with one block: a float32 product, with a proven bound."""

import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import Float32Tile, inverse_norms
from clipreid_kit.retrieval.exact.gallery_blocks import LoadedBlock
from clipreid_kit.retrieval.exact.row_center import RowCenter, differences_from

_U32, _U64 = 2.0**-24, 2.0**-53  # unit roundoff
_UNDERFLOW = 1e-20
_MANY = 8  # queries from which on a copy of the rows pays


def multiply_float32(
    queries: Tensor, norms: Tensor, block: LoadedBlock, reference: float, out: Tensor
) -> float:
    """Write the fast similarities of queries with a block, less a reference.

    Args:
        queries: (Q, D).
        norms: (Q,), their norms, float64.
        block: N rows that may be found, on the device of the queries.
        reference: A number near to the similarities of nearly equal rows, or 0.
        out: (Q, N), float32.

    Returns:
        How far a value may be from the exact similarity less the reference.
    """
    if block.center is not None and block.along_center is not None:
        by_row = block.along_center - reference
        return _multiply_differences(queries, norms, block, block.center, by_row, out)

    tile = Float32Tile(block.vectors, block.norms, "cosine", 1.0)
    tile.multiply(queries, norms, out)
    if reference == 0:
        return tile.error
    out -= reference
    return tile.error + 3 * _U32 * (1 + abs(reference))


def _multiply_differences(
    queries: Tensor,
    norms: Tensor,
    block: LoadedBlock,
    center: RowCenter,
    by_row: Tensor,
    out: Tensor,
) -> float:
    """Do the same for nearly equal rows, from the differences from their centre.

    ``by_row`` (N,) holds the products of rows with the centre, less the reference.
    """
    left = queries.double() * inverse_norms(norms)[:, None] - center.point
    by_query = torch.zeros_like(norms)

    vectors, row_norms, longest_row = block.vectors, block.norms, 1.0
    if len(queries) >= _MANY:  # a copy of the differences pays
        vectors, longest_row = differences_from(center, vectors, row_norms), center.farthest
        row_norms = torch.ones_like(row_norms)
        by_query = left @ center.point

    tile = Float32Tile(vectors, row_norms, "cosine", 1.0)
    tile.multiply(left, torch.ones_like(norms), out)
    out += by_row.float()
    out += by_query.float()[:, None]

    # float32 rounds both terms and their sums; the rest is float64 arithmetic
    product = float(torch.linalg.vector_norm(left, dim=1).max()) * longest_row
    largest = float(by_row.abs().max() + by_query.abs().max())
    slack = (8 * queries.shape[1] + 80) * _U64 + _UNDERFLOW
    return 1.01 * (tile.error * product + 3 * _U32 * (product + largest)) + slack
