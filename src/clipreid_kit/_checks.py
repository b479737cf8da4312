"""Argument errors: owner, what was expected, what came, and what to do about it.

Only metadata (shape, dtype, device) and plain Python numbers are looked at here, so a check never waits for a
device.
"""

import math
import numbers

import torch
from torch import Tensor


def fail(owner: str, expected: str, got: object, remedy: str = "") -> ValueError:
    """Build the one kind of error that the library raises for a bad argument."""
    message = f"{owner}: expected {expected}, got {got}."
    return ValueError(f"{message} {remedy}" if remedy else message)


def describe(tensor: Tensor) -> str:
    """Shape, dtype and device of a tensor, for an error text."""
    return f"shape {tuple(tensor.shape)}, {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def check_embeddings(owner: str, name: str, embeddings: Tensor) -> None:
    """Require a floating-point matrix (N, D) with D >= 1."""
    if not isinstance(embeddings, Tensor):
        raise fail(owner, f"{name} as a tensor", type(embeddings).__name__, "Use torch.as_tensor.")
    if embeddings.ndim != 2 or embeddings.shape[1] == 0 or not embeddings.is_floating_point():
        raise fail(owner, f"{name} as a floating-point matrix (N, D)", describe(embeddings))


def check_dense(owner: str, name: str, tensor: Tensor) -> None:
    """Require a tensor that holds its numbers one by one: not a sparse, quantised or meta tensor."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        got = (
            "a meta tensor"
            if tensor.is_meta
            else str(tensor.layout if not tensor.is_quantized else tensor.dtype)
        )
        raise fail(
            owner,
            f"{name} as a dense tensor",
            got.removeprefix("torch."),
            "Use to_dense or dequantize first.",
        )


def check_same_width(owner: str, name: str, first: Tensor, other_name: str, second: Tensor) -> None:
    """Require two matrices with the same number of columns, on one device."""
    if first.shape[1] != second.shape[1]:
        raise fail(
            owner,
            f"{name} and {other_name} of one width",
            f"{tuple(first.shape)} and {tuple(second.shape)}",
            "Take both from the same model, at the same level.",
        )
    if first.device != second.device:
        raise fail(
            owner, f"{name} and {other_name} on one device", f"{first.device} and {second.device}"
        )


def check_labels(owner: str, name: str, labels: Tensor, rows: int) -> None:
    """Require one integer label for each of ``rows`` rows."""
    if not isinstance(labels, Tensor):
        raise fail(
            owner, f"{name} as a tensor of integers", type(labels).__name__, "Use torch.as_tensor."
        )
    if (
        labels.ndim != 1
        or labels.shape[0] != rows
        or labels.is_floating_point()
        or labels.is_complex()
    ):
        raise fail(owner, f"{name} as {rows} integers, one for each row", describe(labels))


def check_number(owner: str, name: str, value: float) -> None:
    """Require a plain number: no bool, text, ``None`` or tensor."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise fail(owner, f"{name} as a number", _spelled(value))


def check_positive(owner: str, name: str, value: float, unit: str = "") -> None:
    """Require a finite number above zero."""
    check_number(owner, name, value)
    if not math.isfinite(value) or value <= 0:
        raise fail(owner, f"{name} > 0{unit}", value)


def check_at_least(owner: str, name: str, value: float, lowest: float, unit: str = "") -> None:
    """Require a finite number not below ``lowest``."""
    check_number(owner, name, value)
    if not math.isfinite(value) or value < lowest:
        raise fail(owner, f"{name} >= {lowest}{unit}", value)


def check_fraction(owner: str, name: str, value: float) -> None:
    """Require a number in [0, 1)."""
    check_number(owner, name, value)
    if not 0 <= value < 1:
        raise fail(owner, f"{name} in [0, 1)", value)


def check_integer(owner: str, name: str, value: int, lowest: int) -> None:
    """Require a whole number not below ``lowest``."""
    if isinstance(value, bool | Tensor) or not hasattr(value, "__index__") or value < lowest:
        raise fail(owner, f"{name} as a whole number >= {lowest}", _spelled(value))


def _spelled(value: object) -> str:
    """Spell a wrong argument out; a tensor by its shape, since reading its values would wait."""
    return f"a tensor of {describe(value)}" if isinstance(value, Tensor) else repr(value)


def check_seed(owner: str, seed: int) -> None:
    """Require a seed that torch's generators take."""
    check_integer(owner, "seed", seed, 0)
    if seed >= 2**63:
        raise fail(owner, "seed below 2^63", seed)


def check_choice(owner: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Require one of a few words."""
    if value not in choices:
        raise fail(owner, f"{name} to be one of {', '.join(choices)}", repr(value))
