"""Integer arrays: conversion of labels and cameras, and stable orders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit._similarity.as_array import as_array

IntArray = npt.NDArray[np.int64]
Integers = Sequence[int] | Tensor | npt.NDArray[np.integer[Any]]

_USABLE_BITS = 63  # of a non-negative int64


def as_integers(owner: str, name: str, values: Integers) -> IntArray:
    """Convert labels or cameras to a flat array.

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
    return array.astype(np.int64)


def stable_order(values: IntArray) -> IntArray:
    """Return the order that sorts the values, equal ones in the order of their positions."""
    lowest = int(values.min())
    position_bits = len(values).bit_length()
    value_bits = (int(values.max()) - lowest).bit_length()
    if value_bits + position_bits > _USABLE_BITS:
        return np.argsort(values, kind="stable")

    # Value and position in one number: sorting numbers is several times faster than a stable
    # argsort.
    packed = np.sort(((values - lowest) << position_bits) | np.arange(len(values)))
    return packed & ((1 << position_bits) - 1)


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
