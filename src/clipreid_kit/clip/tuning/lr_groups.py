"""Parameter groups with a rate for each layer, in which every trainable parameter stands exactly once."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from clipreid_kit._checks import check_at_least, check_positive, fail
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.tuning.parameter_depth import ParameterDepth, parameter_depths

_OWNER = "layerwise_lr_groups"
_SHOWN = 10
_TABLES = (
    "positional_embedding",
    "class_embedding",
    "pos_embed",
    "cls_token",
    "camera_embedding.table",
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
    r"""Make the parameter groups of an optimiser, with rates that fall towards the input of the towers.

    Use it for every optimiser over towers and what is trained beside them: a parameter that trains and is in
    no group would stay as it is without a word. In a tower of :math:`B` blocks, depth :math:`d` (0 for the
    embeddings, :math:`B + 1` for the head) has the rate

    .. math::
        \eta_d = \eta \, \gamma^{B + 1 - d}

    Args:
        module: :class:`ClipTowers`, or any module that holds some, such as a method with its heads.
        lr: The rate :math:`\eta`. A mapping gives one for each beginning of a parameter's name, and the
            longest that fits counts: ``{"towers.model.visual": 5e-6, "": 5e-5}``; ``""`` is every other.
        layer_decay: :math:`\gamma` in (0, 1]; 1 for one rate throughout, 0.65 to 0.9 is usual.
        weight_decay: Of every parameter outside ``no_decay``; at least 0.
        bias_lr_factor: Factor on the rate of biases; CLIP-ReID has 2.
        no_decay: Ends of names without weight decay. ``None``: all vectors and numbers (biases, norms,
            ``logit_scale``) and the tables of positions, classes and cameras. ``()``: none, as in CLIP-ReID.

    Returns:
        Groups with ``params``, ``lr``, ``weight_decay`` and a ``name``, for any optimiser of torch.

    Raises:
        ValueError: If a trainable parameter is in no group (they are listed), a name fits nothing, nothing
            trains, or an option is out of range.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> groups = layerwise_lr_groups(towers, 1.0, layer_decay=0.5, weight_decay=0.1)
        >>> {group["name"]: group["lr"] for group in groups}["image block 4"]  # the last of four, before the head
        0.5

    References:
        Clark et al., `ELECTRA <https://arxiv.org/abs/2003.10555>`_, 2020; Bao et al., `BEiT
        <https://arxiv.org/abs/2106.08254>`_, 2021, have the same rule.
    """
    rates = dict(lr) if isinstance(lr, Mapping) else {"": lr}
    for prefix, rate in rates.items():
        check_at_least(_OWNER, f"lr of {prefix!r}" if prefix else "lr", rate, 0.0)
    check_positive(_OWNER, "layer_decay", layer_decay)
    check_at_least(_OWNER, "weight_decay", weight_decay, 0.0)
    check_positive(_OWNER, "bias_lr_factor", bias_lr_factor)
    if layer_decay > 1:
        raise fail(_OWNER, "layer_decay in (0, 1]", layer_decay)
    where = _places(module)
    trainable = [
        (name, parameter)
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    _check_prefixes(module, rates, trainable)
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    for name, parameter in trainable:
        prefix = max((prefix for prefix in rates if _fits(prefix, name)), key=len)
        place = where.get(id(parameter))
        rate, label = rates[prefix], prefix or "rest"
        if place is not None:
            rate, label = rate * layer_decay ** (place.num_blocks + 1 - place.depth), str(place)
        if "bias" in name.rpartition(".")[2]:
            rate, label = rate * bias_lr_factor, label + (", bias" if bias_lr_factor != 1 else "")
        decay = 0.0 if _is_spared(name, parameter, no_decay) else weight_decay
        label += ", no decay" if decay != weight_decay else ""
        groups.setdefault((label, rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay, "name": label}
        for (label, rate, decay), parameters in groups.items()
    ]


def _places(module: nn.Module) -> dict[int, ParameterDepth]:
    found: dict[int, ParameterDepth] = {}
    for part in module.modules():
        if isinstance(part, ClipTowers):
            found |= {id(parameter): place for _, parameter, place in parameter_depths(part)}
    return found


def _check_prefixes(
    module: nn.Module, rates: Mapping[str, float], trainable: Sequence[tuple[str, nn.Parameter]]
) -> None:
    if not trainable:
        raise fail(
            _OWNER, "a module with trainable parameters", f"{type(module).__name__} without any"
        )
    names = [name for name, _ in module.named_parameters()]
    unused = [prefix for prefix in rates if not any(_fits(prefix, name) for name in names)]
    if unused:
        raise fail(
            _OWNER, "names in lr that some parameter begins with", ", ".join(map(repr, unused))
        )
    orphans = [name for name, _ in trainable if not any(_fits(prefix, name) for prefix in rates)]
    if orphans:
        more = f" and {len(orphans) - _SHOWN} more" if len(orphans) > _SHOWN else ""
        raise fail(
            _OWNER,
            "a rate for every trainable parameter",
            f"none for {', '.join(orphans[:_SHOWN])}{more}",
            'Add their names to lr, or "" for every other, or freeze them.',
        )


def _fits(prefix: str, name: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix.rstrip(".") + ".")


def _is_spared(name: str, parameter: nn.Parameter, no_decay: Sequence[str] | None) -> bool:
    if no_decay is None:
        return parameter.ndim < 2 or name.endswith(_TABLES)
    return name.endswith(tuple(no_decay))
