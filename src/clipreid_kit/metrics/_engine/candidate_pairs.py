"""The items of a block of similarities that matter: those that may stand above a query's lowest match."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
INFINITY = np.float32(np.inf)

COLUMN_BITS = 17  # of a packed candidate; then 32 of its value; what is left are 14 for the query
_VALUE_BITS = 32


def pack(query: IntArray, values: Float32Array, columns: IntArray | int) -> IntArray:
    """One integer for each candidate, that ascends by query, then by value."""
    bits = np.ascontiguousarray(values).view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(2**31) - bits, bits) + 2**31
    packed: IntArray = (((query << _VALUE_BITS) | ordered) << COLUMN_BITS) | columns
    return packed


def columns_of(packed: IntArray) -> IntArray:
    """The columns of packed candidates."""
    return packed & ((1 << COLUMN_BITS) - 1)


def query_of(packed: IntArray) -> IntArray:
    """The queries of packed candidates."""
    return packed >> (COLUMN_BITS + _VALUE_BITS)


def find_candidates(out: Tensor, lowest: Float32Array) -> tuple[IntArray, IntArray]:
    """All items that are not below the ``lowest`` of their query.

    Args:
        out: Similarities (Q, G), float32 or bfloat16.
        lowest: (Q,); infinity where nothing is wanted.

    Returns:
        The items, packed and ascending; and where those of each query end.
    """
    size, width = out.shape
    if out.device.type != "cpu":
        flat_ = (out >= torch.from_numpy(lowest).to(out.device)[:, None]).view(-1).nonzero()[:, 0]
        flat, values = flat_.cpu().numpy(), out.view(-1)[flat_].float().cpu().numpy()
    elif out.dtype == torch.bfloat16:
        flat, values = _of_bfloat16(out.view(torch.int16).numpy(), lowest)
    else:
        flat = np.flatnonzero(out.numpy() >= lowest[:, None])
        values = out.numpy().reshape(-1)[flat]
    count = np.diff(flat.searchsorted(np.arange(1, size + 1) * width), prepend=0)
    query = np.repeat(np.arange(size), count)
    packed = pack(query, values, flat - query * width)
    packed.sort()
    return packed, np.cumsum(count)


def _of_bfloat16(
    bits: npt.NDArray[np.int16], lowest: Float32Array
) -> tuple[IntArray, Float32Array]:
    """Numpy knows no bfloat16, but its bits ascend with the value, as integers, on the positive side."""
    threshold = (lowest.view(np.int32) >> 16).astype(np.int16)  # the lowest are bfloat16 numbers
    found = bits >= np.maximum(threshold, 0)[:, None]
    for i in np.flatnonzero(lowest <= 0).tolist():  # and descend on the negative side
        found[i] |= bits[i].view(np.uint16) <= max(threshold[i].view(np.uint16), np.uint16(0x8000))
    flat = np.flatnonzero(found)
    return flat, (bits.reshape(-1)[flat].astype(np.int32) << 16).view(np.float32)
