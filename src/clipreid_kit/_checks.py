"""Checks of arguments, and the errors they raise: owner, expected value, actual value and remedy.

A check reads only metadata (shape, dtype, device) and plain Python numbers, so it never waits for a
device.
"""

import itertools
import math
import numbers
import re
import reprlib
from collections.abc import Callable

import torch
from torch import Tensor

# Characters of a value, or of a part of an error, that are shown.
_LONGEST_VALUE = 200
_LONGEST_PART = 2000


def fail(owner: str, expected: str, got: object, remedy: str = "") -> ValueError:
    """Build a ValueError with the text ``owner: expected ..., got .... remedy``, on one line."""
    # Lists and dictionaries may be nested so that writing them out would fill the memory.
    text = str(got) if isinstance(got, str | Tensor | BaseException) else _SHORT.shown(got, str)
    message = f"{owner}: expected {_shortened(expected)}, got {_shortened(text)}."
    return ValueError(_on_one_line(f"{message} {remedy}" if remedy else message))


def _on_one_line(text: str) -> str:
    """Escape control characters and ends of lines, which a name out of a file may hold."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(value: object) -> str:
    """Represent a value in an error text: as ``repr`` does, but of bounded length."""
    return _SHORT.shown(value, repr)


class _ShortRepr(reprlib.Repr):
    """A ``repr`` that looks at the first items and levels of a value only."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 12
        self.maxdeque = self.maxarray = 12
        self.maxstring = self.maxlong = self.maxother = _LONGEST_VALUE

    def shown(self, value: object, write: Callable[[object], str]) -> str:
        """Represent a container in short, and anything else by ``repr`` or ``str``."""
        if isinstance(value, _CONTAINERS):
            return _shortened(self.repr(value), _LONGEST_VALUE)
        if isinstance(value, int) and abs(value) >= 10**_LONGEST_VALUE:
            return f"an integer of {value.bit_length()} bits"
        return _shortened(write(value), _LONGEST_VALUE)

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 (reprlib's signature)
        return self.shown(x, repr)

    def repr_dict(self, x: dict[object, object], level: int) -> str:
        """Represent a dictionary in its own order, which ``reprlib`` would sort."""
        if level <= 0 and x:
            return "{...}"

        parts = []
        for key, value in itertools.islice(x.items(), self.maxdict):
            parts.append(f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}")
        if len(x) > self.maxdict:
            parts.append("...")
        return f"{{{', '.join(parts)}}}"


# Torch cannot compare or index with uint16 to uint64 everywhere.
_INTEGERS = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})

# Every character that ends a line is among them, as str.splitlines has them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_CONTAINERS = (dict, list, tuple, set, frozenset)
_SHORT = _ShortRepr()


def _shortened(text: str, longest: int = _LONGEST_PART) -> str:
    """Cut a text in its middle if it is too long."""
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]} ... {text[-longest // 2 :]}"


def describe(tensor: Tensor) -> str:
    """Describe a tensor by shape, dtype and device, for an error text."""
    # A nested tensor has no shape.
    shape = "a nested shape" if tensor.is_nested else f"shape {tuple(tensor.shape)}"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{shape}, {dtype} on {tensor.device}"


def check_embeddings(owner: str, name: str, embeddings: Tensor) -> None:
    """Require a dense floating-point matrix (N, D) with D >= 1."""
    if not isinstance(embeddings, Tensor):
        raise fail(owner, f"{name} as a tensor", type(embeddings).__name__, "Use torch.as_tensor.")

    check_dense(owner, name, embeddings)
    is_matrix = embeddings.ndim == 2 and embeddings.shape[1] > 0
    if not is_matrix or not embeddings.is_floating_point():
        raise fail(owner, f"{name} as a floating-point matrix (N, D)", describe(embeddings))


def check_dense(owner: str, name: str, tensor: Tensor) -> None:
    """Require a dense tensor: not sparse, nested, quantised or on the meta device."""
    remedy = "Use to_dense or dequantize first."
    if tensor.is_meta:
        got = "a meta tensor"
        remedy = "A tensor on the meta device holds no values."
    elif tensor.is_nested:
        got = "a nested tensor"
        remedy = "Pad its rows to one length, or concatenate them."
    elif tensor.is_quantized:
        got = str(tensor.dtype)
    elif tensor.layout is not torch.strided:
        got = str(tensor.layout)
    else:
        return

    raise fail(owner, f"{name} as a dense tensor", got.removeprefix("torch."), remedy)


def check_same_width(owner: str, name: str, first: Tensor, other_name: str, second: Tensor) -> None:
    """Require two matrices with the same number of columns, on the same device."""
    if first.shape[1] != second.shape[1]:
        raise fail(
            owner,
            f"{name} and {other_name} of one width",
            f"{tuple(first.shape)} and {tuple(second.shape)}",
            "Take both from the same model, at the same level.",
        )

    if first.device != second.device:
        devices = f"{first.device} and {second.device}"
        raise fail(owner, f"{name} and {other_name} on one device", devices)


def check_labels(
    owner: str, name: str, labels: Tensor, rows: int, device: torch.device | None = None
) -> None:
    """Require one integer label for each of ``rows`` rows, on ``device`` if one is given."""
    if not isinstance(labels, Tensor):
        raise fail(
            owner, f"{name} as a tensor of integers", type(labels).__name__, "Use torch.as_tensor."
        )

    check_dense(owner, name, labels)
    is_integer = labels.dtype in _INTEGERS
    if labels.ndim != 1 or labels.shape[0] != rows or not is_integer:
        raise fail(owner, f"{name} as {rows} integers, one for each row", describe(labels))

    if device is not None and labels.device != device:
        remedy = "Move them with .to()."
        raise fail(owner, f"{name} on {device}, as the embeddings are", str(labels.device), remedy)


def check_label_range(
    owner: str,
    labels: Tensor,
    num_identities: int,
    remedy: str = "Number the training identities from 0.",
    name: str = "labels",
) -> None:
    """Require labels in [0, num_identities), where they can be read without waiting for a device.

    That is on the CPU, and neither inside a compiled graph nor inside a transform of
    ``torch.func``.
    """
    is_readable = labels.device.type == "cpu" and not torch.compiler.is_compiling()
    if not is_readable or labels.numel() == 0 or inside_a_transform():
        return

    lowest = int(labels.min())
    highest = int(labels.max())
    if lowest < 0 or highest >= num_identities:
        got = f"{name} from {lowest} to {highest}"
        raise fail(owner, f"{name} in [0, {num_identities})", got, remedy)


def inside_a_transform() -> bool:
    """Whether this runs inside ``torch.func.grad``, ``vmap``, ``jvp`` or another transform."""
    # A compiler traces the transforms away.
    if torch.compiler.is_compiling():
        return False

    # Torch has no public way to ask.
    are_active = getattr(torch._C, "_are_functorch_transforms_active", None)  # noqa: SLF001
    return are_active is not None and bool(are_active())


def check_number(owner: str, name: str, value: object) -> None:
    """Require a plain number: not a bool, a string, ``None`` or a tensor."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise fail(owner, f"{name} as a number", _represent(value))


def check_finite(owner: str, name: str, value: float) -> None:
    """Require a finite number."""
    check_number(owner, name, value)
    if not math.isfinite(value):
        raise fail(owner, f"{name} as a finite number", value)


def check_positive(owner: str, name: str, value: float, unit: str = "") -> None:
    """Require a finite number above zero."""
    check_number(owner, name, value)
    if not math.isfinite(value) or value <= 0:
        raise fail(owner, f"{name} > 0{unit}", value)


def check_at_least(owner: str, name: str, value: float, lowest: float, unit: str = "") -> None:
    """Require a finite number of at least ``lowest``."""
    check_number(owner, name, value)
    if not math.isfinite(value) or value < lowest:
        raise fail(owner, f"{name} >= {lowest}{unit}", value)


def check_fraction(owner: str, name: str, value: float) -> None:
    """Require a number in [0, 1)."""
    check_number(owner, name, value)
    if not 0 <= value < 1:
        raise fail(owner, f"{name} in [0, 1)", value)


def check_integer(owner: str, name: str, value: int, lowest: int) -> None:
    """Require a whole number of at least ``lowest``."""
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool | Tensor)
    if not is_integer or value < lowest:
        raise fail(owner, f"{name} as a whole number >= {lowest}", _represent(value))


def check_seed(owner: str, seed: int) -> None:
    """Require a seed that torch's generators accept."""
    check_integer(owner, "seed", seed, 0)
    if seed >= 2**63:
        raise fail(owner, "seed below 2^63", seed)


def check_choice(owner: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Require one of the given strings."""
    if value not in choices:
        raise fail(owner, f"{name} to be one of {', '.join(choices)}", shown(value))


def _represent(value: object) -> str:
    """Represent a wrong argument; a tensor by its metadata, since reading its values would wait."""
    if isinstance(value, Tensor):
        return f"a tensor of {describe(value)}"
    return shown(value)
