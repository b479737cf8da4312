"""Columns of ids (identities, cameras, sessions), numbered alike on both sides."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_dense, fail
from clipreid_kit._similarity.as_array import as_array

Ids = Sequence[int] | Sequence[str] | Tensor | npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


def id_array(owner: str, name: str, values: Ids, length: int) -> npt.NDArray[Any]:
    """Return ids as an array of integers or strings, one for each of ``length`` rows."""
    array = _to_array(owner, name, values)
    if array.ndim != 1 or array.shape[0] != length:
        raise fail(owner, f"{name} as {length} ids, one for each row", f"shape {array.shape}")
    if array.dtype.kind not in "iuU" and length:
        remedy = "Use integers of at most 64 bits or strings; None and NaN are not ids."
        raise fail(owner, f"{name} as integers or strings", array.dtype, remedy)
    if not isinstance(values, Tensor | np.ndarray):
        kinds = _kinds(values)
        if len(kinds) > 1:
            raise ValueError(f"{owner}: {name} mixes {' and '.join(kinds)}; use one kind.")

    return array


def encode_ids(
    owner: str,
    ids: tuple[Ids, Ids],
    lengths: tuple[int, int],
    sides: tuple[str, str] = ("query", "gallery"),
    column: str = "ids",
) -> tuple[IntArray, IntArray]:
    """Check the ids of two sides, and number them alike, from 0.

    Args:
        owner: Name of the caller, for error messages.
        ids: Ids of both sides.
        lengths: Number of rows of both sides.
        sides: Names of both sides.
        column: Name of the column: an argument is called ``{side}_{column}``.
    """
    first_name, second_name = (f"{side}_{column}" for side in sides)
    first = id_array(owner, first_name, ids[0], lengths[0])
    second = id_array(owner, second_name, ids[1], lengths[1])

    first_kind, second_kind = _kind(first), _kind(second)
    if first_kind != second_kind and len(first) and len(second):
        raise ValueError(
            f"{owner}: {first_name} are {first_kind} and {second_name} are {second_kind}, "
            "so they never match; convert one side."
        )

    # uint64 and int64 would meet in float64, and lose digits
    are_integers = first_kind == second_kind == "integers"
    if are_integers and np.result_type(first, second).kind == "f":
        first, second = first.astype(object), second.astype(object)

    codes = encode_array(np.concatenate([first, second]))
    return codes[: len(first)], codes[len(first) :]


def encode_array(ids: npt.NDArray[Any]) -> IntArray:
    """Number the distinct ids of one array from 0, in ascending order."""
    return np.unique(ids, return_inverse=True)[1].astype(np.int64).reshape(-1)


def check_junk_ids(owner: str, junk_ids: object) -> None:
    """Require a list of identities; a single identity is not one."""
    if isinstance(junk_ids, str) or not isinstance(junk_ids, Sequence | np.ndarray | Tensor):
        raise fail(owner, "junk_ids as a list of ids", repr(junk_ids))


def _to_array(owner: str, name: str, values: Ids) -> npt.NDArray[Any]:
    """Convert ids to an array; one of Python strings becomes an array of strings."""
    if isinstance(values, Tensor):
        check_dense(owner, name, values)
        array = values.detach().cpu().numpy()
    else:
        array = as_array(owner, name, values)

    is_object = array.dtype.kind == "O"
    if not is_object and (array.dtype.kind != "U" or isinstance(values, np.ndarray)):
        return array
    if not all(isinstance(value, str) for value in (array.flat if is_object else values)):
        return array

    for value in array.flat if is_object else values:
        if str(value).endswith("\0"):
            remedy = "An array of strings drops it; rename the id."
            raise fail(owner, f"{name} without a null character at the end", repr(value), remedy)

    return array.astype(str)


def _kinds(values: Sequence[int] | Sequence[str]) -> list[str]:
    """Kinds of the values of a list."""
    kinds = set()
    for value in values:
        if isinstance(value, str):
            kinds.add("strings")
        else:
            kinds.add("booleans" if isinstance(value, bool | np.bool_) else "integers")

    return sorted(kinds)


def _kind(array: npt.NDArray[Any]) -> str:
    return "strings" if array.dtype.kind == "U" else "integers"
