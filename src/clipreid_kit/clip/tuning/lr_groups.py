"""Optimiser parameter groups with layer-wise learning rates."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from clipreid_kit._checks import check_at_least, check_positive, fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.tuning.parameter_depth import ParameterDepth, parameter_depths

_OWNER = "layerwise_lr_groups"
_MAX_SHOWN = 10
_TABLES = (
    "positional_embedding",
    "class_embedding",
    "pos_embed",
    "cls_token",
    "camera_embedding.table",
    "patch_masking.token",
)


def layerwise_lr_groups(
    module: nn.Module,
    lr: float | Mapping[str, float],
    *,
    layer_decay: float = 1.0,
    weight_decay: float = 0.0,
    bias_lr_factor: float = 1.0,
    no_decay: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    r"""Create optimiser groups whose learning rates decay towards the input of the towers.

    Use it for every optimiser over towers and what is trained beside them: a trainable parameter
    that is in no group would silently keep its value, so it is an error here. In a tower of
    :math:`B` blocks, depth :math:`d` (0 for the embeddings, :math:`B + 1` for the head) has the
    learning rate

    .. math::
        \eta_d = \eta \, \gamma^{B + 1 - d}

    Args:
        module: :class:`ClipTowers`, or any module that holds some, such as a method with its heads.
        lr: The learning rate :math:`\eta`, at least 0. A mapping sets one for each prefix of a
            parameter's name, and the longest prefix that fits applies:
            ``{"towers.model.visual": 5e-6, "": 5e-5}``, where ``""`` fits every name.
        layer_decay: :math:`\gamma` in (0, 1]; 1 for one rate throughout. Usual values are 0.65 to
            0.9.
        weight_decay: Weight decay of every parameter outside ``no_decay``; at least 0.
        bias_lr_factor: Factor on the learning rate of biases; 2 in CLIP-ReID.
        no_decay: Suffixes of the names of parameters without weight decay. ``None``: all vectors
            and scalars (biases, norms, ``logit_scale``), and the tables of positions, classes and
            cameras. ``()``: none, as in CLIP-ReID.

    Returns:
        Groups with ``params``, ``lr``, ``weight_decay`` and a ``name``, for any optimiser of torch.

    Raises:
        ValueError: If a trainable parameter is in no group (the error lists them), a prefix fits no
            name, nothing trains, or an option is out of range.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> groups = layerwise_lr_groups(towers, 1.0, layer_decay=0.5, weight_decay=0.1)
        >>> rates = {group["name"]: group["lr"] for group in groups}
        >>> rates["image block 4"]  # the last of four, one below the head
        0.5

    References:
        Clark et al., `ELECTRA <https://arxiv.org/abs/2003.10555>`_, 2020; Bao et al., `BEiT
        <https://arxiv.org/abs/2106.08254>`_, 2021, use the same rule.
    """
    rates = dict(lr) if isinstance(lr, Mapping) else {"": lr}
    _check_options(rates, layer_decay, weight_decay, bias_lr_factor)

    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    _check_prefixes(module, rates, trainable)

    depths = _depths_by_id(module)
    groups: dict[_GroupKey, list[nn.Parameter]] = {}

    for name, parameter in trainable.items():
        prefix = _longest_prefix(rates, name)
        rate = rates[prefix]
        label = prefix or "rest"

        depth = depths.get(id(parameter))
        if depth is not None:
            rate *= layer_decay ** (depth.num_blocks + 1 - depth.depth)
            label = str(depth)

        if bias_lr_factor != 1 and _is_bias(name):
            rate *= bias_lr_factor
            label += ", bias"

        decay = weight_decay
        if weight_decay != 0 and _is_exempt(name, parameter, no_decay):
            decay = 0.0
            label += ", no decay"

        groups.setdefault(_GroupKey(label, rate, decay), []).append(parameter)

    return [
        {"params": parameters, "lr": key.lr, "weight_decay": key.weight_decay, "name": key.name}
        for key, parameters in groups.items()
    ]


class _GroupKey(NamedTuple):
    name: str
    lr: float
    weight_decay: float


def _check_options(
    rates: Mapping[str, float], layer_decay: float, weight_decay: float, bias_lr_factor: float
) -> None:
    for prefix, rate in rates.items():
        check_at_least(_OWNER, f"lr of {prefix!r}" if prefix else "lr", rate, 0.0)

    check_positive(_OWNER, "layer_decay", layer_decay)
    check_at_least(_OWNER, "weight_decay", weight_decay, 0.0)
    check_positive(_OWNER, "bias_lr_factor", bias_lr_factor)
    if layer_decay > 1:
        raise fail(_OWNER, "layer_decay in (0, 1]", layer_decay)


def _check_prefixes(
    module: nn.Module, rates: Mapping[str, float], trainable: Mapping[str, nn.Parameter]
) -> None:
    """Raise ValueError if nothing trains, or prefixes and trainable names do not match."""
    if not trainable:
        kind = type(module).__name__
        raise fail(_OWNER, "a module with trainable parameters", f"{kind} without any")

    names = [name for name, _ in module.named_parameters()]
    unused = [prefix for prefix in rates if not any(_fits(prefix, name) for name in names)]
    if unused:
        unused_names = ", ".join(repr(prefix) for prefix in unused)
        raise fail(_OWNER, "prefixes in lr that some parameter's name has", unused_names)

    orphans = [name for name in trainable if not any(_fits(prefix, name) for prefix in rates)]
    if orphans:
        shown = ", ".join(orphans[:_MAX_SHOWN])
        if len(orphans) > _MAX_SHOWN:
            shown += f" and {len(orphans) - _MAX_SHOWN} more"
        raise fail(
            _OWNER,
            "a learning rate for every trainable parameter",
            f"none for {shown}",
            'Add their names to lr, or "" for all others, or freeze them.',
        )


def _depths_by_id(module: nn.Module) -> dict[int, ParameterDepth]:
    """Depth of every parameter of the towers inside a module, by the id of the parameter."""
    depths: dict[int, ParameterDepth] = {}
    for part in module.modules():
        if isinstance(part, ClipTowers):
            for _, parameter, depth in parameter_depths(part):
                depths[id(parameter)] = depth
    return depths


def _fits(prefix: str, name: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix.rstrip(".") + ".")


def _longest_prefix(rates: Mapping[str, float], name: str) -> str:
    return max((prefix for prefix in rates if _fits(prefix, name)), key=len)


def _is_bias(name: str) -> bool:
    return "bias" in name.rpartition(".")[2]


def _is_exempt(name: str, parameter: nn.Parameter, no_decay: Sequence[str] | None) -> bool:
    """Whether a parameter has no weight decay."""
    if no_decay is None:
        return parameter.ndim < 2 or name.endswith(_TABLES)
    return name.endswith(tuple(no_decay))
