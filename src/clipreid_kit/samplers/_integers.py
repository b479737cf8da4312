"""Integer arrays: conversion of labels and cameras, and stable orders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit._similarity.as_array import as_array

IntArray = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int32] | IntArray  # as narrow as they can be
Integers = Sequence[int] | Tensor | npt.NDArray[np.integer[Any]]

SLICE = 1 << 20  # values sorted at once

_USABLE_BITS = 63  # of a non-negative int64


def as_integers(owner: str, name: str, values: Integers) -> IntArray:
    """Convert labels or cameras to a flat array, without a copy where there is nothing to convert.

    Raises:
        ValueError: If they are not a flat, dense list of integers.
    """
    array: npt.NDArray[Any]
    if isinstance(values, Tensor):
        check_dense(owner, name, values)
    array = values.cpu().numpy() if isinstance(values, Tensor) else as_array(owner, name, values)

    is_empty = array.size == 0
    if array.ndim != 1 or not (is_empty or array.dtype.kind in "iu"):
        raise fail(
            owner,
            f"{name} as a flat list of integers",
            f"shape {array.shape}, {array.dtype}",
            "Number names with np.unique(names, return_inverse=True)[1].",
        )
    return array.astype(np.int64, copy=False)


def read_labels(owner: str, labels: Integers) -> IntArray:
    """Convert the identities of all rows.

    Raises:
        ValueError: If they are not integers, or there are none.
    """
    label_of_row = as_integers(owner, "labels", labels)
    if label_of_row.size == 0:
        raise ValueError(f"{owner}: labels is empty; is the split empty?")
    return label_of_row


def read_column(owner: str, name: str, values: Integers, num_rows: int) -> IntArray:
    """Convert a further column of the rows.

    Raises:
        ValueError: If it does not hold one integer for each row.
    """
    column = as_integers(owner, name, values)
    if column.size != num_rows:
        raise fail(owner, f"{num_rows} {name}, one for each label", column.size)
    return column


def read_optional_column(
    owner: str, name: str, values: Integers | None, num_rows: int
) -> IntArray | None:
    """Convert a column that need not be there: see :func:`read_column`."""
    return None if values is None else read_column(owner, name, values, num_rows)


def take_rows(column: IntArray | None, rows: IntArray) -> IntArray | None:
    """Return the values of some rows; ``None`` if there is no column."""
    return None if column is None else column[rows]


def stable_order(values: IntArray) -> Positions:
    """Return the order that sorts the values, equal ones in the order of their positions."""
    lowest = int(values.min())
    highest = int(values.max())
    position_bits = len(values).bit_length()
    if (highest - lowest).bit_length() + position_bits > _USABLE_BITS:
        return np.argsort(values, kind="stable")

    # Range after range of the values, so that little memory is needed beside the order.
    num_slices = -(-len(values) // SLICE)
    width = (highest - lowest) // num_slices + 1
    order: Positions = np.empty(len(values), dtype=position_dtype(len(values)))
    filled = 0

    for low in range(lowest, highest + 1, width):
        position = _positions_between(values, low, min(low + width - 1, highest))

        # Value and position in one number: sorting numbers is several times faster than a stable
        # argsort.
        packed = ((values[position] - low) << position_bits) | position
        packed.sort()
        packed &= (1 << position_bits) - 1
        order[filled : filled + len(packed)] = packed
        filled += len(packed)

    return order


def position_dtype(size: int) -> npt.DTypeLike:
    """Return the type for positions in an array of some size: 32 bits if they fit."""
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _positions_between(values: IntArray, low: int, high: int) -> IntArray:
    """Positions of the values in [low, high]."""
    is_inside = values >= low
    is_inside &= values <= high
    return np.flatnonzero(is_inside)


def order_by_group_and_key(group: IntArray, key: IntArray, key_bits: int) -> IntArray:
    """Return the order by group, then by key, then by position.

    No two entries tie, so the order is the same on every machine.

    Args:
        group: Group of each entry, at least 0.
        key: Key of each entry, of at most ``key_bits`` bits.
        key_bits: See ``key``.
    """
    position_bits = len(group).bit_length()
    group_bits = int(group.max(initial=0)).bit_length()
    if group_bits + key_bits + position_bits > _USABLE_BITS:
        return np.lexsort((key, group))

    # All three in one number: sorting numbers is several times faster than sorting positions by two
    # keys.
    shifted_group = group << (key_bits + position_bits)
    shifted_key = key << position_bits
    packed = np.sort(shifted_group | shifted_key | np.arange(len(group)))
    return packed & ((1 << position_bits) - 1)
