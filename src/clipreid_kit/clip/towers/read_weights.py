"""Read the tensors of a checkpoint file, of any of the formats that CLIP weights come in."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clipreid_kit._checks import fail

_OWNER = "load_weights"
_NESTED_KEYS = ("state_dict", "model_state_dict", "model")
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")

# errors that the readers raise for a damaged file, or one of another format
_UNREADABLE = (
    SafetensorError,
    OSError,
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    UnicodeDecodeError,
)


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a file, on the CPU.

    Use it to inspect a checkpoint; :func:`load_weights` calls it.

    Args:
        path: A file of any format that :func:`load_weights` accepts.

    Returns:
        The tensors by name, without the prefixes of wrappers.

    Raises:
        ValueError: If the file is missing, damaged, of another format, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise fail(_OWNER, "a file that exists", f"{path}", "Check the path.")

    try:
        # warnings about old pickles and about TorchScript concern the file's author, not the caller
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return find_tensors(_read(path))
    except _UNREADABLE as error:
        raise fail(
            _OWNER,
            f"{path} as a safetensors file, a file of torch.save with tensors only, "
            "or a TorchScript archive",
            f"{path.stat().st_size} bytes that cannot be read as one ({_first_line(error)})",
            "It may be cut off or of another kind; download or save it again.",
        ) from None


def find_tensors(checkpoint: object) -> dict[str, Tensor]:
    """Find the tensors in the content of a checkpoint file, and drop the prefixes of wrappers.

    Raises:
        ValueError: If there are no tensors.
    """
    inner = _find_state_dict(checkpoint)
    items = inner.items() if isinstance(inner, Mapping) else ()
    state = {
        name: tensor
        for name, tensor in items
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not state:
        kind = type(inner).__name__
        raise fail(_OWNER, "a mapping of names to tensors", f"{kind} without any")

    return _without_wrapper_prefixes(state)


def _without_wrapper_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefixes that all names share, in any order: wrappers may hold one another."""
    prefix = _shared_prefix(state)
    while prefix:
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        prefix = _shared_prefix(state)

    return state


def _shared_prefix(state: dict[str, Tensor]) -> str:
    """Return the wrapper's prefix that all names begin with, or an empty string."""
    for prefix in _WRAPPER_PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return prefix

    return ""


def _find_state_dict(checkpoint: object) -> object:
    """Return the mapping inside a training checkpoint, or the checkpoint itself."""
    if isinstance(checkpoint, Mapping):
        for key in _NESTED_KEYS:
            if isinstance(checkpoint.get(key), Mapping):
                return checkpoint[key]
    return checkpoint


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)
    if _is_torchscript(path):
        script: nn.Module = torch.jit.load(path, "cpu")  # type: ignore[no-untyped-call]
        return script.state_dict()
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False

    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
