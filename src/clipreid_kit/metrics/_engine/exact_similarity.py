"""The similarity that ranks follow: float64 arithmetic that is exact, so that no order of operations can change it.

Every row is scaled by a power of two to a norm below 1 and written as the sum of two short numbers, one on a grid of
2^-26 and the other on a finer one. Products of short numbers, and all their partial sums, fit into float64 without
rounding. So the inner products of two such rows have the same bits whatever the matrix product does inside: any BLAS,
order, block size, number of threads or device. Derivation: docs/design/evaluator.md.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Distance = Literal["cosine", "euclidean"]
_CHUNK = 1 << 22  # elements of a temporary on a device
_CHUNK_CPU = (
    1 << 15
)  # stays in the processor's cache, and below the size from which torch wakes its threads


class Split(NamedTuple):
    """Rows as ``(parts[:, 0] + parts[:, 1]) * scale``.

    Attributes:
        parts: (N, 2, D): high and low parts.
        norm: (N,): norms of the sums of the parts, in [0.5, 1), or 0.
        scale: (N,): powers of two.
        square: (2, N): squared norms of the sums of the parts, as sums of two numbers; zeros for the cosine.
    """

    parts: Tensor
    norm: Tensor
    scale: Tensor
    square: Tensor

    def take(self, rows: Tensor | slice) -> "Split":
        """Some of the rows."""
        return Split(self.parts[rows], self.norm[rows], self.scale[rows], self.square[:, rows])


class Products(NamedTuple):
    """Inner products of the parts: high with high, high with low (both ways), low with low. All are exact."""

    high: Tensor
    middle: Tensor
    low: Tensor


def row_chunk(rows: Tensor) -> int:
    """Number of rows to handle at once where a temporary copy is made."""
    return max(1, (_CHUNK_CPU if rows.device.type == "cpu" else _CHUNK) // rows.shape[1])


def double_chunks(rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The rows in float64, a chunk at a time, in one buffer: fresh ones would leave holes in the allocator's heap."""
    step = row_chunk(rows)
    buffer = torch.empty(
        min(step, rows.shape[0]), rows.shape[1], dtype=torch.float64, device=rows.device
    )
    for start in range(0, rows.shape[0], step):
        part = slice(start, min(start + step, rows.shape[0]))
        yield part, buffer[: part.stop - start].copy_(rows[part])


def halving_sum(values: Tensor) -> Tensor:
    """Sum the rows of a matrix in a fixed order: the second half is added to the first until one column is left."""
    while values.shape[1] > 1:
        half = (values.shape[1] + 1) // 2
        folded = values[:, :half].clone()
        folded[:, : values.shape[1] - half] += values[:, half:]
        values = folded
    return values[:, 0]


def split_rows(rows: Tensor, distance: Distance) -> Split:
    """Write rows as sums of two short numbers; the same bits for a row whatever stands beside it."""
    count, dim = rows.shape
    grid = 52 - math.ceil(math.log2(dim) / 2)
    # adding and subtracting 1.5 * 2^(52 - g) rounds to multiples of 2^-g
    coarse, fine = 1.5 * 2.0**26, 1.5 * 2.0 ** (52 - grid)
    parts = torch.empty(count, 2, dim, dtype=torch.float64, device=rows.device)
    norm = torch.empty(count, dtype=torch.float64, device=rows.device)
    scale = torch.empty_like(norm)
    square = torch.zeros(2, count, dtype=torch.float64, device=rows.device)
    step = row_chunk(rows)
    for start in range(0, count, step):
        part = slice(start, start + step)
        values = rows[part].double()
        size = halving_sum(values.square()).sqrt()
        exponent = torch.frexp(size).exponent
        factor = _power_of_two(-exponent)
        values = values * factor[:, None]
        high = values.add(coarse).sub_(coarse)
        low = values.sub_(high).add_(fine).sub_(fine)
        parts[part, 0], parts[part, 1] = high, low
        norm[part], scale[part] = size * factor, _power_of_two(exponent)
        if distance == "euclidean":
            total, error = _two_sum(high.square().sum(1), 2 * (high * low).sum(1))
            square[0, part], square[1, part] = total, error + low.square().sum(1)
    return Split(parts, norm, scale, square)


def all_products(queries: Split, gallery: Split) -> Products:
    """Inner products of every query with every gallery row: (Q, G) each."""
    num_queries, num_gallery, dim = (
        queries.parts.shape[0],
        gallery.parts.shape[0],
        queries.parts.shape[2],
    )
    with torch.autocast(queries.parts.device.type, enabled=False):
        flat = queries.parts.view(-1, dim) @ gallery.parts.view(-1, dim).T
    four = flat.view(num_queries, 2, num_gallery, 2)
    return Products(four[:, 0, :, 0], four[:, 0, :, 1] + four[:, 1, :, 0], four[:, 1, :, 1])


def pair_products(queries: Split, gallery: Split) -> Products:
    """Inner products of row i with row i: the same bits as in :func:`all_products`."""
    q, g = queries.parts, gallery.parts
    middle = (q[:, 0] * g[:, 1]).sum(1) + (q[:, 1] * g[:, 0]).sum(1)
    return Products((q[:, 0] * g[:, 0]).sum(1), middle, (q[:, 1] * g[:, 1]).sum(1))


def similarity(products: Products, queries: Split, gallery: Split, distance: Distance) -> Tensor:
    """Cosine, or minus the squared Euclidean distance, of pairs; element by element.

    Cosine of a zero row is 0. Products (Q, G) go with all queries and all gallery rows, products (N,) with pairs.
    """
    high, middle, low = products
    if high.ndim == 2:
        queries = Split(
            queries.parts, queries.norm[:, None], queries.scale[:, None], queries.square[:, :, None]
        )
        gallery = Split(
            gallery.parts, gallery.norm[None], gallery.scale[None], gallery.square[:, None]
        )
    if distance == "cosine":
        norms = queries.norm * gallery.norm
        return (high + (middle + low)) / torch.where(norms > 0, norms, 1.0)
    # |q|^2 + |g|^2 - 2 q.g, with the errors of the three large sums kept: near neighbours are told apart
    q, g, both = queries.scale.square(), gallery.scale.square(), -2 * queries.scale * gallery.scale
    total, first = _two_sum(queries.square[0] * q, gallery.square[0] * g)
    total, second = _two_sum(total, high * both)
    total, third = _two_sum(total, middle * both)
    rest = queries.square[1] * q + gallery.square[1] * g + low * both
    return -(total + (((first + second) + third) + rest))


def _power_of_two(exponent: Tensor) -> Tensor:
    """2 to a whole power, float64, exactly: written into the bits."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded sum and its error: a + b == sum + error, exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
