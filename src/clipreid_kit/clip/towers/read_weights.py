"""Read the tensors of a checkpoint file, of any of the formats that CLIP weights come in."""

import hashlib
import io
import json
import pickle
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import open_clip
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from clipreid_kit._checks import fail
from clipreid_kit._read_files import (
    UnusableFileError,
    describe_error,
    exists,
    is_file,
    is_folder,
    open_file,
)

_OWNER = "load_weights"
_NESTED_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "state_dict_ema",
    "model_ema",
    "ema",
)

# What DDP, torch.compile, weight averaging, FSDP and activation checkpointing put into names.
_WRAPPED = "module"
_WRAPPERS_ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_NUM_AVERAGED = "n_averaged"

ModulePath = tuple[str, ...]

_SHA256_IN_URL = re.compile(r"/([0-9a-f]{64})/")

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
    UnusableFileError,
    json.JSONDecodeError,
)


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a file, on the CPU.

    Use it to inspect a checkpoint; :func:`load_weights` calls it.

    Args:
        path: A file of any format that :func:`load_weights` accepts.

    Returns:
        The tensors by name, without the prefixes of wrappers. Where the file holds the state dicts
        of several modules (``{"clip": ..., "inversion": ...}``), the key of each comes before its
        names: ``clip.visual.conv1.weight``.

    Raises:
        ValueError: If the file is missing, damaged, of another format, or holds no tensors.
    """
    path = Path(path)
    if not is_file(path):
        if exists(path) and not is_folder(path):
            raise ValueError(f"{_OWNER}: {path} is not a regular file. Copy its content to one.")
        raise fail(_OWNER, "a file that exists", f"{path}", "Check the path.")

    try:
        # warnings about old pickles and about TorchScript concern the file's author, not the caller
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return find_tensors(_read(path))
    except _UNREADABLE as error:
        raise fail(
            _OWNER,
            f"{path} as a safetensors file or a file of torch.save with tensors only",
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

    return _without_wrappers(state)


def read_data(path: Path) -> object:
    """Read a file of ``torch.save`` with plain data only, on the CPU.

    Raises:
        OSError: If the file cannot be opened.
        RuntimeError, pickle.UnpicklingError: If it holds anything else, or is damaged.
        UnusableFileError: If it is damaged in another way.
    """
    with open_file(path) as stream:
        try:
            return torch.load(stream, weights_only=True, map_location="cpu")
        except (OSError, RuntimeError, pickle.UnpicklingError):
            raise
        # torch's reader of pickles raises errors of any kind for damaged ones.
        except Exception as error:
            raise UnusableFileError(describe_error(error)) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the texts that a safetensors file holds beside its tensors.

    Raises:
        OSError: If the file cannot be opened.
        SafetensorError: If it is damaged.
    """
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def unsafe_globals(packed: io.BytesIO) -> list[str]:
    """Return the names in a file of ``torch.save`` that could not be loaded as plain data."""
    packed.seek(0)
    return torch.serialization.get_unsafe_globals_in_checkpoint(packed)


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what wrappers put into names, in any order and depth, also inside other modules."""
    paths = {}
    for name in state:
        inner = name
        for wrapper in _WRAPPERS_ANYWHERE:
            inner = inner.replace(wrapper, "")
        paths[name] = tuple(inner.split("."))

    wrappers = _wrapping_modules(paths.values())
    renamed: dict[str, Tensor] = {}
    num_counters = 0
    for name, path in paths.items():
        if path[-1] == _NUM_AVERAGED and path[:-1] in wrappers:
            num_counters += 1
            continue

        kept = [part for depth, part in enumerate(path) if path[:depth] not in wrappers]
        renamed[".".join(kept)] = state[name]

    return renamed if len(renamed) + num_counters == len(state) else state


def _wrapping_modules(paths: Iterable[ModulePath]) -> set[ModulePath]:
    """Find the modules with nothing but another one, ``module``, and perhaps a counter."""
    children: dict[ModulePath, set[str]] = {}
    for path in paths:
        for depth, part in enumerate(path):
            children.setdefault(path[:depth], set()).add(part)

    wrappers = set()
    for parent, names in children.items():
        is_module = (*parent, _WRAPPED) in children
        if is_module and names - {_NUM_AVERAGED} == {_WRAPPED}:
            wrappers.add(parent)
    return wrappers


def _find_state_dict(checkpoint: object) -> object:
    """Return the innermost mapping in a training checkpoint, or the checkpoint itself."""
    while isinstance(checkpoint, Mapping):
        inner = [
            checkpoint[key] for key in _NESTED_KEYS if isinstance(checkpoint.get(key), Mapping)
        ]
        if not inner:
            return _join_components(checkpoint)
        checkpoint = inner[0]
    return checkpoint


def _join_components(checkpoint: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Join state dicts of several modules into one, with the key of each before its names.

    A checkpoint with tensors of its own is returned as it is.
    """
    if any(isinstance(value, Tensor) for value in checkpoint.values()):
        return checkpoint

    joined = {}
    for key, component in checkpoint.items():
        if not isinstance(key, str) or not isinstance(component, Mapping):
            continue

        prefix = key.removesuffix("_state_dict").removesuffix("_state")
        for name, tensor in component.items():
            if isinstance(name, str) and isinstance(tensor, Tensor):
                joined[f"{prefix}.{name}"] = tensor
    return joined or checkpoint


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)

    with open_file(path) as stream:
        if _is_torchscript(stream):
            return _read_torchscript(stream, path)

    # scripts save arguments, measures and random states beside the weights
    with torch.serialization.safe_globals(_plain_types()):
        return read_data(path)


@cache
def _plain_types() -> list[Any]:
    """Types that hold nothing but data: of arguments, and of numbers and arrays of numpy."""
    rebuild_array: Any = np.zeros(1).__reduce__()[0]
    rebuild_scalar: Any = np.float64(1).__reduce__()[0]
    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    return [Namespace, np.dtype, np.ndarray, rebuild_array, rebuild_scalar, *dtypes]


def _read_torchscript(stream: BinaryIO, path: Path) -> dict[str, Any]:
    """Read the tensors of a TorchScript archive that OpenAI published.

    A TorchScript archive is a program, which runs while it is loaded: any other is refused.
    """
    stream.seek(0)
    digest = _digest_of(stream)
    if digest not in openai_digests():
        raise ValueError(
            f"{_OWNER}: {path} is a TorchScript archive, which may run any code while it is "
            "loaded, and not one of OpenAI's. Where you trust it, save its tensors: "
            "torch.save(torch.jit.load(path).state_dict(), new_path)."
        )

    stream.seek(0)
    script: nn.Module = torch.jit.load(stream, "cpu")  # type: ignore[no-untyped-call]
    return dict(script.state_dict())


def _digest_of(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@cache
def openai_digests() -> frozenset[str]:
    """Return the SHA-256 of each archive that OpenAI published, from their addresses."""
    digests = set()
    for name, tag in open_clip.list_pretrained():
        url = str(open_clip.get_pretrained_cfg(name, tag).get("url", ""))
        found = _SHA256_IN_URL.search(url)
        if found is not None and url.startswith("https://openaipublic."):
            digests.add(found[1])
    return frozenset(digests)


def _is_torchscript(stream: BinaryIO) -> bool:
    if not zipfile.is_zipfile(stream):
        return False

    with zipfile.ZipFile(stream) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
