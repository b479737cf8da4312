"""Weights from files into modules, with a report of what went where."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.architecture_check import describe_architecture

_OWNER = "load_weights"
_NESTED = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """What happened to each tensor of a checkpoint.

    Attributes:
        loaded: Tensors of the module that took their values from the checkpoint, resized ones included.
        missing: Tensors of the module that the checkpoint does not have; they keep their values.
        unexpected: Tensors of the checkpoint that the module does not have.
        resized: Position tables that were resized to the module's grid.
        mismatched: Tensors left as they were because the shapes differ: (name, in the checkpoint, in the
            module); a classifier for another number of identities is the usual one.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, Shape, Shape], ...] = ()

    def summary(self) -> str:
        """Say it in a few lines; at most five names of a kind.

        Returns:
            One line for what was loaded, and one for each kind of departure that occurred.

        Example:
            >>> print(LoadReport(("a", "b"), missing=("c",)).summary())
            2 tensors loaded
            1 missing: c
        """
        changed = tuple(
            f"{name} {there} in the checkpoint, {here} here"
            for name, there, here in self.mismatched
        )
        lines = [f"{len(self.loaded)} tensors loaded"]
        kinds = ("resized", self.resized), ("mismatched", changed), ("missing", self.missing)
        for kind, names in (*kinds, ("unexpected", self.unexpected)):
            if names:
                lines.append(
                    f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
                )
        return "\n".join(lines)


@runtime_checkable
class AdaptsStateDict(Protocol):
    """A module that can bring a checkpoint into its own layout, as :class:`ClipTowers` does."""

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Return the tensors under this module's names, and the names of those resized."""


def load_weights(
    module: nn.Module,
    source: Mapping[str, Any] | str | PathLike[str],
    *,
    strict: bool = True,
    source_image_size: tuple[int, int] | None = None,
) -> LoadReport:
    """Load weights into a module and report what went where.

    Use it for any module, in particular for :class:`ClipTowers` and modules that hold one: their position
    tables are resized to the module's grid and open_clip's older layouts are understood. Prefixes of wrappers
    (``module.``, ``_orig_mod.``) are dropped. The module is changed only if nothing is wrong.

    Args:
        module: Where the weights go; its dtype and device stay.
        source: A state dict, a mapping that holds one under ``state_dict``, ``model_state_dict`` or
            ``model``, or a file: ``.safetensors``, a file of ``torch.save`` (read with
            ``weights_only=True``), a TorchScript archive.
        strict: Whether everything has to fit. If not, what fits is loaded and the rest reported.
        source_image_size: (height, width) in pixels that the checkpoint was trained at. ``None``: a position
            table with as many rows as the module's is taken to be for the same grid, any other for a square
            grid.

    Returns:
        The report.

    Raises:
        ValueError: If the file is missing, damaged or holds no tensors; if with ``strict`` anything does not
            fit, or without it nothing does; if a position table can be read in two ways.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> load_weights(layer, {"weight": torch.eye(2), "bias": torch.zeros(2)}).loaded
        ('weight', 'bias')
    """
    state = tensors_of(source) if isinstance(source, Mapping) else read_weights(source)
    state, resized = _adapted(module, state, source_image_size)
    own = module.state_dict()
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name in own and tensor.shape == own[name].shape
    }
    report = LoadReport(
        loaded=tuple(name for name in own if name in fitting),
        missing=tuple(name for name in own if name not in state),
        unexpected=tuple(name for name in state if name not in own),
        resized=tuple(name for name in resized if name in fitting),
        mismatched=tuple(
            (name, tuple(state[name].shape), tuple(own[name].shape))
            for name in own
            if name in state and name not in fitting
        ),
    )
    complete = not (report.missing or report.unexpected or report.mismatched)
    if not fitting or (strict and not complete):
        raise fail(
            _OWNER,
            f"weights of {describe_architecture(own)}",
            f"weights of {describe_architecture(state)}\n{report.summary()}",
            "\nBuild the model that the weights belong to, or pass strict=False to load what fits. "
            "If only the position table differs, build at the weights' image size or pass source_image_size.",
        )
    module.load_state_dict(fitting, strict=False)
    return report


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a file, on the CPU.

    Use it to look into a checkpoint; :func:`load_weights` calls it.

    Args:
        path: A file as :func:`load_weights` takes it.

    Returns:
        The tensors by name, without the prefixes of wrappers.

    Raises:
        ValueError: If the file is missing, damaged, of another kind, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise fail(_OWNER, "a file that exists", f"{path}", "Check the path.")
    try:
        # the readers warn of old pickles and of TorchScript's age; neither is the caller's to mend
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tensors_of(_read(path))
    except _BROKEN as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise fail(
            _OWNER,
            f"{path} as a safetensors file, a file of torch.save with tensors only, or a TorchScript archive",
            f"{path.stat().st_size} bytes that cannot be read as one ({reason})",
            "It may be cut off or of another kind; fetch or save it again.",
        ) from None


_BROKEN = (
    *(SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile),
    *(AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError),
)


def tensors_of(checkpoint: object) -> dict[str, Tensor]:
    """Find the tensors in what a checkpoint file holds; wrappers' prefixes are dropped."""
    for key in _NESTED:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    items = checkpoint.items() if isinstance(checkpoint, Mapping) else ()
    state = {
        name: tensor
        for name, tensor in items
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not state:
        raise fail(
            _OWNER, "a mapping of names to tensors", f"{type(checkpoint).__name__} without any"
        )
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _adapted(
    module: nn.Module, state: dict[str, Tensor], source_image_size: tuple[int, int] | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    adapted, resized = dict(state), []
    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        inner = {
            key.removeprefix(prefix): tensor
            for key, tensor in state.items()
            if key.startswith(prefix)
        }
        if isinstance(part, AdaptsStateDict) and inner:
            fitted, changed = part.adapt_state_dict(inner, source_image_size)
            adapted = {key: tensor for key, tensor in adapted.items() if not key.startswith(prefix)}
            adapted |= {prefix + key: tensor for key, tensor in fitted.items()}
            resized += [prefix + key for key in changed]
    return adapted, tuple(resized)


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_file(path)
    if _is_torchscript(path):
        return torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
