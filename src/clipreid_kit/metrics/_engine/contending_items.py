"""Find the items of a block of similarities that may rank above a match of their query.

An item is a gallery row as seen by one query. Items are packed into one integer each, so that
sorting the integers sorts them by query and then by similarity.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

# a packed item: 14 bits of its query, 32 of its value, 17 of its column
COLUMN_BITS = 17
_VALUE_BITS = 32


def pack(query: IntArray, values: Float32Array, columns: IntArray | int) -> IntArray:
    """Return one integer for each item; they ascend by query, then by value, then by column."""
    bits = np.ascontiguousarray(values).view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(2**31) - bits, bits) + 2**31
    packed: IntArray = (((query << _VALUE_BITS) | ordered) << COLUMN_BITS) | columns
    return packed


def columns_of(packed: IntArray) -> IntArray:
    """Return the columns of packed items."""
    return packed & ((1 << COLUMN_BITS) - 1)


def queries_of(packed: IntArray) -> IntArray:
    """Return the queries of packed items."""
    return packed >> (COLUMN_BITS + _VALUE_BITS)


def find_contending_items(block: Tensor, lowest: Float32Array) -> tuple[IntArray, IntArray]:
    """Find all items that are not below the lowest interesting value of their query.

    Args:
        block: Similarities (Q, G), float32 or bfloat16.
        lowest: (Q,); infinity for a query without matches.

    Returns:
        The items, packed and ascending; and for each query the position after its last item.
    """
    num_queries, width = block.shape
    if block.device.type != "cpu":
        threshold = torch.from_numpy(lowest).to(block.device)[:, None]
        found = (block >= threshold).view(-1).nonzero()[:, 0]
        flat = found.cpu().numpy()
        values = block.view(-1)[found].float().cpu().numpy()
    elif block.dtype == torch.bfloat16:
        flat, values = _find_in_bfloat16(block.view(torch.int16).numpy(), lowest)
    else:
        flat = np.flatnonzero(block.numpy() >= lowest[:, None])
        values = block.numpy().reshape(-1)[flat]

    row_ends = np.arange(1, num_queries + 1) * width
    num_items = np.diff(flat.searchsorted(row_ends), prepend=0)
    query = np.repeat(np.arange(num_queries), num_items)

    packed = pack(query, values, flat - query * width)
    packed.sort()
    return packed, np.cumsum(num_items)


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
