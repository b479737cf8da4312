"""Find the items of a block of similarities that may rank above a match of their query.

An item is a gallery row as seen by one query. The similarities of a query are put into cells, equal
steps from below its lowest match to above its highest one. An item is packed into one integer, its
cell and its column, so that sorting the integers of a query sorts its items by cell. The larger of
two similarities never has the lower cell, whatever is rounded: both go through the same operations,
none of which changes an order.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Keys = npt.NDArray[np.signedinteger[Any]]

COLUMN_BITS = 17  # of a packed item, at most: the widest tile
_CELL_BITS = 24  # at most, for float32 holds no more
_QUERY_SHIFT = COLUMN_BITS + _CELL_BITS
_FEW = 64  # items of a query, on average, up to which those of all queries are sorted as one
_MANY = 0.4  # share of items from which on whole rows are packed: they need no list of positions


class Cells(NamedTuple):
    """Equal steps of the similarities of each query.

    Attributes:
        start: (Q,), where cell 0 ends and cell 1 begins, about.
        scale: (Q,), cells for a similarity of 1.
        top: The highest cell.
        column_bits: Bits of a packed item that hold its column.
        dtype: Type of a packed item.
    """

    start: Float32Array
    scale: Float32Array
    top: int
    column_bits: int
    dtype: type[np.signedinteger[Any]]

    def pack(
        self,
        values: Float32Array,
        query: IntArray | tuple[slice, None],
        columns: Keys | int,
    ) -> Keys:
        """Return one integer for each item; those of a query ascend by cell, then by column.

        Args:
            values: Similarities.
            query: The query of each, as an index of ``start``.
            columns: The column of each.
        """
        steps = values - self.start[query]
        steps *= self.scale[query]
        np.clip(steps, 0, self.top, out=steps)
        keys: Keys = steps.astype(self.dtype)
        keys <<= self.column_bits
        keys |= columns
        return keys


class ContendingItems(NamedTuple):
    """Items of some queries, packed and ascending for each query.

    Attributes:
        packed: (N,).
        ends: (Q,), for each query the position after its last item.
        cells: How they are packed.
        holds_query: Whether the bits above the cell hold the query, so that all items ascend.
    """

    packed: Keys
    ends: IntArray
    cells: Cells
    holds_query: bool = False

    def near(
        self, query: IntArray, low: Float32Array, beyond: Float32Array
    ) -> tuple[IntArray, IntArray]:
        """Return for each window the range of the items that may be in it.

        Those after the range are certainly beyond the window, those before it below.

        Args:
            query: The query of each window, ascending.
            low: The lowest value in each window.
            beyond: A value above each window.
        """
        first = self.cells.pack(low, query, 0)
        last = self.cells.pack(beyond, query, (1 << self.cells.column_bits) - 1)
        edges = np.stack([first, last + 1])
        if self.holds_query:
            edges += query << _QUERY_SHIFT
            begin, end = self.packed.searchsorted(edges)
            return begin, end

        found = np.empty(edges.shape, dtype=np.int64)

        numbers = np.arange(len(self.ends) + 1)
        windows = query.searchsorted(numbers).tolist()
        start = 0
        for number, end in enumerate(self.ends.tolist()):
            part = slice(windows[number], windows[number + 1])
            own = self.packed[start:end]
            found[:, part] = own.searchsorted(edges[:, part])
            found[:, part] += start
            start = end
        return found[0], found[1]

    def columns(self, positions: IntArray) -> IntArray:
        """Return the columns of items."""
        columns = self.packed[positions] & ((1 << self.cells.column_bits) - 1)
        return columns.astype(np.int64)

    def queries(self, positions: IntArray) -> IntArray:
        """Return the queries of items."""
        return self.ends.searchsorted(positions, side="right")


def cells_of(lowest: Float32Array, highest: Float32Array, width: int) -> Cells:
    """Divide the similarities of each query into cells.

    Args:
        lowest: (Q,), the lowest interesting value; infinity for a query without matches.
        highest: (Q,), the value above which all items may share a cell.
        width: Number of columns.
    """
    column_bits = max(1, (width - 1).bit_length())
    # 31 bits are sorted twice as fast as 63; a wide tile leaves too few of them for the cell
    is_short = column_bits <= 14
    top = (1 << (31 - column_bits if is_short else _CELL_BITS)) - 2
    top = min(top, (1 << _CELL_BITS) - 2)

    has_match = np.isfinite(lowest)
    low = np.where(has_match, lowest, 0.0).astype(np.float64)
    high = np.where(has_match, highest, 1.0).astype(np.float64)

    # two cells below the lowest value, and a few above the highest: rounding takes neither into
    # cell 0 or the top one, where all further items are (this affects the time only)
    start = (low - 2 * (high - low) / top).astype(np.float32)
    start = np.nextafter(start, np.float32(-np.inf))
    scale = np.minimum((top - 8) / (high - start), 1e30).astype(np.float32)
    return Cells(start, scale, top, column_bits, np.int32 if is_short else np.int64)


def find_contending_items(
    block: Tensor, lowest: Float32Array, highest: Float32Array
) -> ContendingItems:
    """Find all items that are not below the lowest interesting value of their query.

    Args:
        block: Similarities (Q, G), float32 or bfloat16.
        lowest: (Q,); infinity for a query without matches.
        highest: (Q,); items above it are not told apart.

    Returns:
        The items; there may be others far below the lowest value among them.
    """
    num_queries, width = block.shape
    cells = cells_of(lowest, highest, width)

    if block.device.type == "cpu" and block.dtype == torch.float32:
        values = block.numpy()
        is_found = values >= lowest[:, None]
        if np.count_nonzero(is_found) > _MANY * is_found.size:
            return _pack_all(values, cells)
        flat = np.flatnonzero(is_found)
        found = values.reshape(-1)[flat]
    elif block.device.type == "cpu":
        flat, found = _find_in_bfloat16(block.view(torch.int16).numpy(), lowest)
    else:
        threshold = torch.from_numpy(lowest).to(block.device)[:, None]
        positions = (block >= threshold).view(-1).nonzero()[:, 0]
        flat = positions.cpu().numpy()
        found = block.view(-1)[positions].float().cpu().numpy()

    ends = flat.searchsorted(np.arange(1, num_queries + 1) * width)
    query = np.repeat(np.arange(num_queries), np.diff(ends, prepend=0))
    if len(flat) <= _FEW * num_queries:
        # a step for each query would take longer than the items
        cells = cells._replace(dtype=np.int64)
        packed = cells.pack(found, query, flat - query * width)
        packed += query << _QUERY_SHIFT
        packed.sort()
        return ContendingItems(packed, ends, cells, holds_query=True)

    packed = cells.pack(found, query, (flat - query * width).astype(cells.dtype))
    start = 0
    for end in ends.tolist():
        packed[start:end].sort()
        start = end
    return ContendingItems(packed, ends, cells)


def _pack_all(values: Float32Array, cells: Cells) -> ContendingItems:
    """Pack and sort whole rows."""
    num_queries, width = values.shape
    packed = cells.pack(values, (slice(None), None), np.arange(width, dtype=cells.dtype))
    packed.sort(axis=1)
    return ContendingItems(packed.reshape(-1), np.arange(1, num_queries + 1) * width, cells)


def _find_in_bfloat16(
    bits: npt.NDArray[np.int16], lowest: Float32Array
) -> tuple[IntArray, Float32Array]:
    """Find the items of a block given as the bits of its bfloat16 numbers.

    Numpy has no bfloat16, but as integers the bits ascend with positive values, and descend with
    negative ones.
    """
    threshold = (lowest.view(np.int32) >> 16).astype(np.int16)  # ``lowest`` are bfloat16 numbers
    is_found = bits >= np.maximum(threshold, 0)[:, None]

    for i in np.flatnonzero(lowest <= 0).tolist():
        largest_bits = max(threshold[i].view(np.uint16), np.uint16(0x8000))
        is_found[i] |= bits[i].view(np.uint16) <= largest_bits

    flat = np.flatnonzero(is_found)
    return flat, (bits.reshape(-1)[flat].astype(np.int32) << 16).view(np.float32)
