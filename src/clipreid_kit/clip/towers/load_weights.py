"""Load weights into a module, and report where each tensor went."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from clipreid_kit.clip.towers.architecture_check import describe_architecture
from clipreid_kit.clip.towers.read_weights import find_tensors, read_weights
from clipreid_kit.clip.towers.wrappers import unwrapped

_OWNER = "load_weights"
_MAX_NAMES = 5

Shape = tuple[int, ...]


@dataclass(frozen=True, repr=False)
class LoadReport:
    """Report of what happened to each tensor of a checkpoint.

    Attributes:
        loaded: Tensors of the module that were set from the checkpoint, including resized ones.
        missing: Tensors of the module that the checkpoint does not have; they keep their values.
        unexpected: Tensors of the checkpoint that the module does not have.
        resized: Position tables that were resized to the module's grid.
        mismatched: Tensors that keep their values because the shapes differ: (name, shape in the
            checkpoint, shape in the module). Usually a classifier for another number of identities.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, Shape, Shape], ...] = ()

    def __repr__(self) -> str:
        """Show the number of tensors of each kind; :meth:`summary` names them."""
        return (
            f"LoadReport(loaded: {len(self.loaded)}, missing: {len(self.missing)}, "
            f"unexpected: {len(self.unexpected)}, resized: {len(self.resized)}, "
            f"mismatched: {len(self.mismatched)})"
        )

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the module and of the checkpoint was used."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """Describe the report in a few lines, with at most five names of a kind.

        Returns:
            One line for the loaded tensors, and one for each kind of difference that occurred.

        Example:
            >>> print(LoadReport(("a", "b"), missing=("c",)).summary())
            2 tensors loaded
            1 missing: c
        """
        mismatched = [
            f"{name} {there} in the checkpoint, {here} here"
            for name, there, here in self.mismatched
        ]
        differences = {
            "resized": self.resized,
            "mismatched": mismatched,
            "missing": self.missing,
            "unexpected": self.unexpected,
        }

        lines = [f"{len(self.loaded)} tensors loaded"]
        for kind, names in differences.items():
            if names:
                shown = [*names[:_MAX_NAMES], "..."] if len(names) > _MAX_NAMES else names
                lines.append(f"{len(names)} {kind}: {', '.join(shown)}")
        return "\n".join(lines)


@runtime_checkable
class AdaptsStateDict(Protocol):
    """A module that can convert a checkpoint to its own layout, as :class:`ClipTowers` does."""

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
    """Load weights into a module and report where each tensor went.

    Use it for any module, and in particular for :class:`ClipTowers` and modules that hold one:
    their position tables are resized to the module's grid, and open_clip's older layouts are
    understood. What wrappers put into names (``module.``, ``_orig_mod.``, ``n_averaged``) is
    dropped, in any order and depth. The module is changed only if nothing is wrong.

    Args:
        module: The module to load into; it keeps its dtype and device.
        source: A state dict, a mapping that holds one under ``state_dict``, ``model_state_dict`` or
            ``model``, or a file: ``.safetensors``, a file of ``torch.save`` (read with
            ``weights_only=True``), or a TorchScript archive that OpenAI published (known by its
            SHA-256; any other could run code, and is refused).
        strict: Whether every tensor has to fit. If false, those that fit are loaded and the others
            are reported.
        source_image_size: (height, width) in pixels that the checkpoint was trained at. ``None``
            takes a position table with as many rows as the module's to be for the same grid, and
            any other to be for a square grid.

    Returns:
        The report.

    Raises:
        ValueError: If the module is wrapped for several devices; if the file is missing, damaged or
            holds no tensors; if a tensor does not fit
            and ``strict`` is true, or none fits; if a tensor is complex, sparse or of integers
            where the module has floats, holds NaN or infinite weights, or overflows the module's
            dtype; if a position table may be for two different grids.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 2)
        >>> load_weights(layer, {"weight": torch.eye(2), "bias": torch.zeros(2)}).loaded
        ('weight', 'bias')
    """
    module = unwrapped("load_weights", module)
    state = find_tensors(source) if isinstance(source, Mapping) else read_weights(source)
    state, resized = _adapt(module, state, source_image_size)

    own = module.state_dict()
    report = _compare(own, state)
    report = replace(report, resized=tuple(name for name in resized if name in report.loaded))

    if not report.loaded or (strict and not report.is_complete):
        raise ValueError(_explain_misfit(own, state, report))

    _check_values(module, own, state, report.loaded)
    module.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    return report


def _adapt(
    module: nn.Module, state: dict[str, Tensor], source_image_size: tuple[int, int] | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Let every part of the module that can convert its tensors do so."""
    adapted = dict(state)
    resized: list[str] = []

    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        inner = {
            key.removeprefix(prefix): tensor
            for key, tensor in state.items()
            if key.startswith(prefix)
        }
        if not inner or not isinstance(part, AdaptsStateDict):
            continue

        converted, changed = part.adapt_state_dict(inner, source_image_size)
        adapted = {key: tensor for key, tensor in adapted.items() if not key.startswith(prefix)}
        adapted |= {prefix + key: tensor for key, tensor in converted.items()}
        resized += [prefix + key for key in changed]

    return adapted, tuple(resized)


def _compare(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> LoadReport:
    """Sort the tensors of a module and of a checkpoint by whether they fit."""
    loaded, missing, mismatched = [], [], []
    for name, tensor in own.items():
        if name not in state:
            missing.append(name)
        elif state[name].shape == tensor.shape:
            loaded.append(name)
        else:
            mismatched.append((name, tuple(state[name].shape), tuple(tensor.shape)))

    return LoadReport(
        loaded=tuple(loaded),
        missing=tuple(missing),
        unexpected=tuple(name for name in state if name not in own),
        mismatched=tuple(mismatched),
    )


def _check_values(
    module: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Iterable[str]
) -> None:
    """Raise ValueError if copying a tensor would change its values, or make the module useless."""
    parameters = {name for name, _ in module.named_parameters()}
    for name in names:
        problem = _problem_of(state[name], own[name], is_parameter=name in parameters)
        if problem is not None:
            raise ValueError(
                f"{_OWNER}: {name} of the checkpoint {problem}. Nothing was loaded; save the "
                "weights again."
            )


def _problem_of(tensor: Tensor, own: Tensor, *, is_parameter: bool) -> str | None:
    """Say why a tensor must not be copied into another of its shape; ``None`` if it may."""
    if tensor.is_meta or tensor.is_quantized or tensor.layout is not torch.strided:
        return f"is not a dense tensor with values ({tensor.layout}, {tensor.dtype})"

    kinds = [_kind_of(one) for one in (tensor, own)]
    if kinds[0] != kinds[1]:
        return f"is {tensor.dtype}, and the module's is {own.dtype}"
    if kinds[1] != "floats":
        return None

    converted = tensor.detach().to(own.dtype)
    if bool(converted.isfinite().all()):
        return None

    values = tensor.detach().double()
    # Buffers may hold infinities on purpose, as attention masks do.
    if bool(values.isnan().any()) or (is_parameter and bool(values.isinf().any())):
        return "holds NaN or infinite values"
    if int(converted.isinf().sum()) > int(values.isinf().sum()):
        return f"overflows {own.dtype}, the module's dtype"
    return None


def _kind_of(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex numbers"
    if tensor.is_floating_point():
        return "floats"
    return "truth values" if tensor.dtype is torch.bool else "integers"


def _explain_misfit(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], report: LoadReport
) -> str:
    """Say in one text why a checkpoint does not fit a module, and what to do."""
    if _has_lora(state) and not _has_lora(own):
        return (
            f"{_OWNER}: This checkpoint holds unmerged LoRA layers. Open a folder of `save_towers` "
            "with `load_towers`; otherwise call `merge_lora` before saving, or give the towers "
            "the same adapters with `add_lora` before loading."
        )

    expected = describe_architecture(own)
    found = describe_architecture(state)
    if expected == found:
        return (
            f"{_OWNER}: The checkpoint does not fit the module: both hold {found}, but names or "
            f"shapes differ: {on_one_line(report)}. "
            "Pass strict=False to load the tensors that fit. If only the position table differs, "
            "build at the weights' image size or pass source_image_size."
        )

    return (
        f"{_OWNER}: expected weights of {expected}, got weights of {found}: "
        f"{on_one_line(report)}. Build the model that the weights belong to, or pass "
        "strict=False to load the tensors that fit."
    )


def _has_lora(state: Mapping[str, Tensor]) -> bool:
    return any(".lora_A." in name for name in state)


def on_one_line(report: LoadReport) -> str:
    """Return the summary for the text of an error; names in a file may hold line breaks."""
    return "; ".join(report.summary().splitlines())
