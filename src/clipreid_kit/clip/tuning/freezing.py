"""Which parameters of the towers train: none, the last blocks, all; and which BatchNorms move."""

import re
from typing import TYPE_CHECKING, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.clip.tuning.parameter_depth import parameter_depths

if TYPE_CHECKING:
    from clipreid_kit.clip.towers.clip_towers import ClipTowers

BatchNormPolicy = Literal["follow", "frozen", "running"]
Blocks = int | Literal["all", "none"]

_POLICIES = ("follow", "frozen", "running")
_CAMERAS = "camera_embedding."
_PROJECTIONS = ("proj", "attnpool.", "head.")
_INTO_JOINT_SPACE = re.compile(
    r"model\.(visual\.(proj$|attnpool\.c_proj\.|head\.)|(text\.)?text_projection\b|text\.proj\.)"
)
_OF_TRUNK = re.compile(r"model\.visual\.trunk\.head\.(fc\.)?(weight|bias)$")


def freeze(
    towers: "ClipTowers",
    tower: Literal["both", "image", "text"] = "both",
    *,
    batch_norm: BatchNormPolicy = "follow",
) -> None:
    """Freeze towers: no parameter trains, and by default no running statistic moves.

    Use it for stage 1 of CLIP-ReID (both towers) and for what keeps its text tower (``"text"``).

    Args:
        towers: The towers; changed in place.
        tower: Which of them. ``text`` includes ``logit_scale`` and ``logit_bias``.
        batch_norm: What ResNets do with the running statistics of BatchNorm in training mode: ``follow``
            keeps those of frozen layers and uses them, ``frozen`` those of all layers, ``running`` none.

    Raises:
        ValueError: If an option is none of these.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-resnet")
        >>> freeze(towers)
        >>> any(parameter.requires_grad for parameter in towers.parameters())
        False

    Note:
        Freezing parameters alone leaves the statistics moving whenever ``train()`` is called, which makes a
        frozen ResNet another one after a few batches.
    """
    check_choice("freeze", "tower", tower, ("both", "image", "text"))
    check_choice("freeze", "batch_norm", batch_norm, _POLICIES)
    if tower != "text":
        for parameter in towers.image_parameters():
            _set_trainable(parameter, trainable=False)
        _set_still(towers, batch_norm)
    if tower != "image":
        for parameter in towers.text_parameters():
            _set_trainable(parameter, trainable=False)


def unfreeze_last_blocks(
    towers: "ClipTowers",
    blocks: int | Literal["all"],
    *,
    tower: Literal["image", "text"] = "image",
    batch_norm: BatchNormPolicy = "follow",
) -> None:
    """Let the last blocks of one tower train, with the head behind them, and freeze the rest of that tower.

    Use it to fine-tune with little data. The head always trains along: ``ln_post`` and the projection of a
    ViT, the attention pool of a ResNet, ``ln_final``, the projection, ``logit_scale`` and ``logit_bias`` of
    a text tower; so does a camera embedding, which is never pretrained.

    Args:
        towers: The towers; changed in place. The other tower is left alone.
        blocks: How many: transformer blocks of a ViT or text tower, stages (``layer1`` to ``layer4``) of a
            ResNet. 0 for the head alone; ``"all"`` for the whole tower, embeddings and stem included.
        tower: Which tower.
        batch_norm: As for :func:`freeze`.

    Raises:
        ValueError: If the tower has fewer blocks, or its blocks are not known.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> unfreeze_last_blocks(towers, 1)
        >>> sum(parameter.requires_grad for parameter in towers.image_parameters())  # a block, ln_post and proj
        15
    """
    owner = "unfreeze_last_blocks"
    check_choice(owner, "tower", tower, ("image", "text"))
    check_choice(owner, "batch_norm", batch_norm, _POLICIES)
    own = [
        (name, parameter, place)
        for name, parameter, place in parameter_depths(towers)
        if place.tower == tower
    ]
    num_blocks = own[0][2].num_blocks
    whole = blocks == "all"
    if not whole and (
        not isinstance(blocks, int) or isinstance(blocks, bool) or not 0 <= blocks <= num_blocks
    ):
        raise fail(owner, f'blocks in 0..{num_blocks} or "all"', repr(blocks))
    first = 0 if isinstance(blocks, str) else num_blocks - blocks + 1
    for name, parameter, place in own:
        _set_trainable(
            parameter, trainable=whole or place.depth >= first or name.startswith(_CAMERAS)
        )
    if tower == "image":
        _set_still(towers, batch_norm)


def set_trainable(
    towers: "ClipTowers",
    *,
    image: Blocks = "all",
    text: Blocks = "none",
    projections: bool = True,
    temperature: bool = False,
    batch_norm: BatchNormPolicy = "follow",
) -> None:
    """Say in one call what of the towers trains.

    Use it where a configuration decides; it sets every parameter, whatever was frozen before.

    Args:
        towers: The towers; changed in place.
        image: Blocks of the image tower that train, as for :func:`unfreeze_last_blocks`, or ``"none"`` of the tower.
        text: The same of the text tower.
        projections: Whether the last projections into the joint space train, where their tower does; see
            :func:`projection_names`.
        temperature: Whether ``logit_scale`` and ``logit_bias`` train, where the text tower does. The losses of this
            library that learn a temperature have one of their own.
        batch_norm: As for :func:`freeze`.

    Raises:
        ValueError: If a tower has fewer blocks, its blocks are not known, or an option is none of these.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> set_trainable(towers, image=1, projections=False)
        >>> names = [name for name, parameter in towers.named_parameters() if parameter.requires_grad]
        >>> len(names), "model.visual.proj" in names
        (14, False)
    """
    chosen: tuple[tuple[Literal["image", "text"], Blocks], ...] = (("image", image), ("text", text))
    check_choice("set_trainable", "batch_norm", batch_norm, _POLICIES)
    depths = {place.tower: place.num_blocks for _, _, place in parameter_depths(towers)}
    for tower, blocks in chosen:  # before anything changes
        whole = isinstance(blocks, int) and not isinstance(blocks, bool)
        if not (0 <= int(blocks) <= depths[tower] if whole else blocks in ("all", "none")):
            raise fail(
                "set_trainable",
                f'{tower} as a number of blocks in 0..{depths[tower]}, "all" or "none"',
                repr(blocks),
            )
    for tower, blocks in chosen:
        if blocks == "none":
            freeze(towers, tower, batch_norm=batch_norm)
        else:
            unfreeze_last_blocks(towers, blocks, tower=tower, batch_norm=batch_norm)
    still = set() if projections else set(projection_names(towers))
    for name, parameter in towers.named_parameters():
        if name in still or (not temperature and name.endswith(("logit_scale", "logit_bias"))):
            _set_trainable(parameter, trainable=False)


def projection_names(towers: "ClipTowers") -> tuple[str, ...]:
    """Name the parameters that lead from a tower's own width into the joint space of images and texts.

    Use it to give them a rate of their own, or to leave them as they were trained.

    Args:
        towers: The towers.

    Returns:
        ``proj`` of a ViT, ``c_proj`` of a ResNet's attention pool, the head behind a trunk of timm or, without one, the
        trunk's own, and the text projection, as far as the model has them.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> projection_names(ClipTowers.from_open_clip("reid-tiny-vit"))
        ('model.text_projection', 'model.visual.proj')
    """
    names = [name for name, _ in towers.named_parameters()]
    found = [name for name in names if _INTO_JOINT_SPACE.match(name)]
    if not any(name.startswith("model.visual.head.") for name in found):
        found += [name for name in names if _OF_TRUNK.match(name)]
    return tuple(found)


def freeze_projection(towers: "ClipTowers") -> None:
    """Freeze what leads from ``unprojected`` and ``patches`` to ``projected``, for methods that read the former."""
    last = projection_names(towers)
    for name, parameter in towers.model.visual.named_parameters():
        if name.startswith(_PROJECTIONS) or f"model.visual.{name}" in last:
            _set_trainable(parameter, trainable=False)


def apply_batch_norm_mode(towers: "ClipTowers") -> None:
    """Put the BatchNorms of the image tower into the mode that the policy asks for; ``train()`` calls it."""
    for name, norm in _norms(towers):
        norm.train(towers.training and name not in towers.frozen_batch_norms)


def _set_trainable(parameter: nn.Parameter, *, trainable: bool) -> None:
    parameter.requires_grad = trainable
    if not trainable:
        parameter.grad = None  # an optimiser would go on moving it along an old gradient


def _set_still(towers: "ClipTowers", batch_norm: BatchNormPolicy) -> None:
    towers.frozen_batch_norms = frozenset(
        name
        for name, norm in _norms(towers)
        if batch_norm == "frozen"
        or (
            batch_norm == "follow"
            and not any(parameter.requires_grad for parameter in norm.parameters())
        )
    )
    apply_batch_norm_mode(towers)


def _norms(towers: "ClipTowers") -> list[tuple[str, nn.Module]]:
    return [
        (name, module)
        for name, module in towers.model.visual.named_modules()
        if isinstance(module, _BatchNorm)
    ]
