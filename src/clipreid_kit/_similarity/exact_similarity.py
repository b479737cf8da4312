"""The similarity that defines the ranks: float64 arithmetic in which no sum is rounded.

Every row is scaled by a power of two to a norm below 1 and written as the sum of two short numbers,
one on a grid of 2^-26 and the other on a finer one. Products of short numbers, and all their
partial sums, fit into float64 without rounding. So the inner products of two such rows have the
same bits whatever the order of operations: for any BLAS, block size, number of threads or device.
Derivation: docs/design/evaluator.md.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Distance = Literal["cosine", "euclidean"]

_CHUNK = 1 << 22  # elements of a temporary on a device
# on the CPU: fits the cache, and is below the size from which torch wakes its threads
_CHUNK_CPU = 1 << 15


class SplitRows(NamedTuple):
    """Rows as ``(parts[:, 0] + parts[:, 1]) * scale``.

    Attributes:
        parts: (N, 2, D): high and low parts.
        norm: (N,): norms of the sums of the parts, in [0.5, 1), or 0.
        scale: (N,): powers of two.
        square: (2, N): squared norms of the sums of the parts, as sums of two numbers; zeros for
            the cosine.
    """

    parts: Tensor
    norm: Tensor
    scale: Tensor
    square: Tensor

    def take(self, rows: Tensor | slice) -> "SplitRows":
        """Return some of the rows."""
        return SplitRows(self.parts[rows], self.norm[rows], self.scale[rows], self.square[:, rows])


class PartProducts(NamedTuple):
    """Exact inner products of the parts of two rows.

    Attributes:
        high: High parts with high parts.
        middle: High parts with low parts, both ways.
        low: Low parts with low parts.
    """

    high: Tensor
    middle: Tensor
    low: Tensor


def rows_per_chunk(rows: Tensor) -> int:
    """Return how many rows to handle at once where a temporary copy is made."""
    elements = _CHUNK_CPU if rows.device.type == "cpu" else _CHUNK
    return max(1, elements // rows.shape[1])


def float64_chunks(rows: Tensor, step: int | None = None) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows in float64, a chunk at a time, in one buffer that each chunk overwrites.

    A fresh buffer for each chunk would fragment the heap of the allocator.

    Args:
        rows: (N, D).
        step: Rows of a chunk; defaults to :func:`rows_per_chunk`.
    """
    count, dim = rows.shape
    step = rows_per_chunk(rows) if step is None else step
    buffer = torch.empty(min(step, count), dim, dtype=torch.float64, device=rows.device)

    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        # half precision is converted by way of float32, which takes half as long
        values = rows[part].float() if rows.element_size() == 2 else rows[part]
        yield part, buffer[: part.stop - start].copy_(values)


def halving_sum(values: Tensor) -> Tensor:
    """Sum each row of a matrix in a fixed order.

    The second half of the columns is added to the first until one column is left.
    """
    while values.shape[1] > 1:
        half = (values.shape[1] + 1) // 2
        folded = values[:, :half].clone()
        folded[:, : values.shape[1] - half] += values[:, half:]
        values = folded
    return values[:, 0]


def split_rows(rows: Tensor, distance: Distance) -> SplitRows:
    """Write rows as sums of two short numbers; the bits of a row do not depend on other rows."""
    count, dim = rows.shape
    grid = 52 - math.ceil(math.log2(dim) / 2)
    # adding and subtracting 1.5 * 2^(52 - g) rounds to multiples of 2^-g
    coarse = 1.5 * 2.0**26
    fine = 1.5 * 2.0 ** (52 - grid)

    parts = torch.empty(count, 2, dim, dtype=torch.float64, device=rows.device)
    norm = torch.empty(count, dtype=torch.float64, device=rows.device)
    scale = torch.empty_like(norm)
    square = torch.zeros(2, count, dtype=torch.float64, device=rows.device)

    step = rows_per_chunk(rows)
    for start in range(0, count, step):
        part = slice(start, start + step)
        values = rows[part].double()

        # Scale every row to a norm in [0.5, 1).
        size = _square_root(halving_sum(values.square()))
        exponent = torch.frexp(size).exponent
        factor = _power_of_two(-exponent)
        norm[part] = size * factor
        scale[part] = _power_of_two(exponent)
        values = values * factor[:, None]

        high = values.add(coarse).sub_(coarse)
        low = values.sub_(high).add_(fine).sub_(fine)
        parts[part, 0] = high
        parts[part, 1] = low

        if distance == "euclidean":
            total, error = _two_sum(high.square().sum(1), 2 * (high * low).sum(1))
            square[0, part] = total
            square[1, part] = error + low.square().sum(1)

    return SplitRows(parts, norm, scale, square)


def all_products(queries: SplitRows, gallery: SplitRows) -> PartProducts:
    """Return the inner products of every query with every gallery row: (Q, G) each."""
    num_queries, _, dim = queries.parts.shape
    num_gallery = gallery.parts.shape[0]

    with torch.autocast(queries.parts.device.type, enabled=False):
        flat = queries.parts.view(-1, dim) @ gallery.parts.view(-1, dim).T

    # Axes: query, its high or low part, gallery row, its high or low part.
    products = flat.view(num_queries, 2, num_gallery, 2)
    high, low = products[:, 0, :, 0], products[:, 1, :, 1]
    high_with_low, low_with_high = products[:, 0, :, 1], products[:, 1, :, 0]
    return PartProducts(high, high_with_low + low_with_high, low)


def pair_products(queries: SplitRows, gallery: SplitRows) -> PartProducts:
    """Return the inner products of row i with row i: the same bits as in :func:`all_products`."""
    q_high, q_low = queries.parts[:, 0], queries.parts[:, 1]
    g_high, g_low = gallery.parts[:, 0], gallery.parts[:, 1]
    middle = (q_high * g_low).sum(1) + (q_low * g_high).sum(1)
    return PartProducts((q_high * g_high).sum(1), middle, (q_low * g_low).sum(1))


def combine_products(
    products: PartProducts, queries: SplitRows, gallery: SplitRows, distance: Distance
) -> Tensor:
    """Return the cosine, or minus the squared Euclidean distance, element by element.

    The cosine of a zero row is 0. Products (Q, G) go with all queries and all gallery rows,
    products (N,) with pairs of rows.
    """
    high, middle, low = products
    q_norm, q_scale, q_square = queries.norm, queries.scale, queries.square
    g_norm, g_scale, g_square = gallery.norm, gallery.scale, gallery.square

    # For products (Q, G), queries become a column and gallery rows a row.
    if high.ndim == 2:
        q_norm, q_scale, q_square = q_norm[:, None], q_scale[:, None], q_square[:, :, None]
        g_norm, g_scale, g_square = g_norm[None], g_scale[None], g_square[:, None]

    if distance == "cosine":
        norms = q_norm * g_norm
        return (high + (middle + low)) / torch.where(norms > 0, norms, 1.0)

    # |q|^2 + |g|^2 - 2 q.g, keeping the errors of the three large sums: they tell near neighbours
    # apart although the terms nearly cancel
    q_unit, g_unit = q_scale.square(), g_scale.square()
    cross_unit = -2 * q_scale * g_scale
    total, first = _two_sum(q_square[0] * q_unit, g_square[0] * g_unit)
    total, second = _two_sum(total, high * cross_unit)
    total, third = _two_sum(total, middle * cross_unit)
    rest = q_square[1] * q_unit + g_square[1] * g_unit + low * cross_unit
    return -(total + (((first + second) + third) + rest))


def _square_root(values: Tensor) -> Tensor:
    """Return square roots rounded correctly, as IEEE 754 has them, on every device."""
    if values.device.type == "cpu":  # torch takes those of a library, which differ in the last bit
        return torch.from_numpy(np.sqrt(values.numpy()))
    return values.sqrt()


def _power_of_two(exponent: Tensor) -> Tensor:
    """Return 2 to a whole power, float64, exactly: written into the bits."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rounded sum and its error: a + b == sum + error, exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
