"""Choose the parameters of the towers that train, and the BatchNorms whose statistics move."""

import re
from collections.abc import Collection
from typing import Literal

from torch import nn

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.clip.towers.batch_norm import apply_batch_norm_mode, batch_norms
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_has_text, check_towers
from clipreid_kit.clip.tuning.parameter_depth import Tower, parameter_depths

BatchNormPolicy = Literal["follow", "frozen", "running"]
Blocks = int | Literal["all", "none"]

_POLICIES = ("follow", "frozen", "running")
_ADDED_PREFIXES = ("camera_embedding.", "patch_masking.")  # to tokens, with any blocks
_LOGIT_PARAMETERS = ("logit_scale", "logit_bias")

# parts of an image tower between its own width and the joint space
_PROJECTION_PREFIXES = ("proj", "attnpool.", "head.")
_JOINT_PROJECTION = re.compile(
    r"model\.(visual\.(proj$|attnpool\.c_proj\.|head\.)|(text\.)?text_projection\b|text\.proj\.)"
)
_TRUNK_HEAD = re.compile(r"model\.visual\.trunk\.head\.(fc\.)?(weight|bias)$")


def freeze(
    towers: ClipTowers,
    tower: Literal["both", "image", "text"] = "both",
    *,
    batch_norm: BatchNormPolicy = "follow",
) -> None:
    """Freeze towers: no parameter trains and, by default, no running statistic moves.

    Use it for stage 1 of CLIP-ReID (both towers), and for methods that keep the text tower fixed
    (``"text"``).

    Args:
        towers: The towers; changed in place.
        tower: The tower or towers to freeze. ``text`` includes ``logit_scale`` and ``logit_bias``.
        batch_norm: Running statistics that a ResNet keeps, and uses, in training mode: ``follow``
            those of frozen layers, ``frozen`` those of all layers, ``running`` none.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-resnet")
        >>> freeze(towers)
        >>> any(parameter.requires_grad for parameter in towers.parameters())
        False

    Note:
        Freezing only the parameters would let the running statistics move whenever ``train()`` is
        called, so that a frozen ResNet changes within a few batches.
    """
    check_towers("freeze", towers)
    check_choice("freeze", "tower", tower, ("both", "image", "text"))
    check_choice("freeze", "batch_norm", batch_norm, _POLICIES)

    if tower != "text":
        for parameter in towers.image_parameters():
            _set_trainable(parameter, trainable=False)
        _set_batch_norm_policy(towers, batch_norm)

    if tower != "image":
        for parameter in towers.text_parameters():
            _set_trainable(parameter, trainable=False)


def unfreeze_last_blocks(
    towers: ClipTowers,
    blocks: int | Literal["all"],
    *,
    tower: Literal["image", "text"] = "image",
    batch_norm: BatchNormPolicy = "follow",
) -> None:
    """Train the last blocks of one tower and the head behind them; freeze the rest of that tower.

    Use it to fine-tune with little data. The head always trains: ``ln_post`` and the projection of
    a ViT, the attention pool of a ResNet, ``ln_final``, the projection, ``logit_scale`` and
    ``logit_bias`` of a text tower. A camera embedding trains too, since it is never pretrained.

    Args:
        towers: The towers; changed in place. The other tower is left unchanged.
        blocks: Number of blocks that train: transformer blocks of a ViT or text tower, stages
            (``layer1`` to ``layer4``) of a ResNet. 0 trains the head alone; ``"all"`` the whole
            tower, including embeddings and stem.
        tower: The tower to set.
        batch_norm: As for :func:`freeze`.

    Raises:
        ValueError: If the tower has fewer blocks, or its blocks are unknown.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> unfreeze_last_blocks(towers, 1)
        >>> sum(p.requires_grad for p in towers.image_parameters())  # a block, ln_post and proj
        15
    """
    owner = "unfreeze_last_blocks"
    check_towers(owner, towers)
    check_choice(owner, "tower", tower, ("image", "text"))
    check_choice(owner, "batch_norm", batch_norm, _POLICIES)

    if tower == "text":
        check_has_text(owner, towers)

    num_blocks = _num_blocks(towers)[tower]
    if blocks != "all" and not _is_block_count(blocks, num_blocks):
        raise fail(owner, f'blocks in 0..{num_blocks} or "all"', repr(blocks))

    first_depth = 0 if isinstance(blocks, str) else num_blocks - blocks + 1
    for name, parameter, position in parameter_depths(towers):
        if position.tower == tower:
            trainable = position.depth >= first_depth or name.startswith(_ADDED_PREFIXES)
            _set_trainable(parameter, trainable=trainable)

    if tower == "image":
        _set_batch_norm_policy(towers, batch_norm)


def set_trainable(
    towers: ClipTowers,
    *,
    image: Blocks = "all",
    text: Blocks = "none",
    projections: bool = True,
    temperature: bool = False,
    batch_norm: BatchNormPolicy = "follow",
) -> None:
    """Set in one call which parameters of the towers train.

    Use it if a configuration decides; it sets every parameter, whatever was frozen before.

    Args:
        towers: The towers; changed in place.
        image: Blocks of the image tower that train, as for :func:`unfreeze_last_blocks`; ``"none"``
            freezes the tower.
        text: Blocks of the text tower that train, likewise.
        projections: Whether the last projections into the joint space train, if their tower does;
            see :func:`projection_names`.
        temperature: Whether ``logit_scale`` and ``logit_bias`` train, if the text tower does.
            Losses of this library that learn a temperature have one of their own.
        batch_norm: As for :func:`freeze`.

    Raises:
        ValueError: If a tower has fewer blocks, its blocks are unknown, or an option is unknown.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit")
        >>> set_trainable(towers, image=1, projections=False)
        >>> names = [name for name, p in towers.named_parameters() if p.requires_grad]
        >>> len(names), "model.visual.proj" in names
        (14, False)
    """
    owner = "set_trainable"
    check_towers(owner, towers)
    check_choice(owner, "batch_norm", batch_norm, _POLICIES)

    if text != "none":
        check_has_text(owner, towers)

    chosen: dict[Tower, Blocks] = {"image": image, "text": text}
    num_blocks = _num_blocks(towers)
    for tower, blocks in chosen.items():  # all checks before any change
        if blocks not in ("all", "none") and not _is_block_count(blocks, num_blocks[tower]):
            expected = f'{tower} as a number of blocks in 0..{num_blocks[tower]}, "all" or "none"'
            raise fail(owner, expected, repr(blocks))

    for tower, blocks in chosen.items():
        if blocks == "none":
            freeze(towers, tower, batch_norm=batch_norm)
        else:
            unfreeze_last_blocks(towers, blocks, tower=tower, batch_norm=batch_norm)

    if not projections:
        _freeze_named(towers, projection_names(towers))
    if not temperature:
        freeze_temperature(towers)


def projection_names(towers: ClipTowers) -> tuple[str, ...]:
    """Name the parameters that project from a tower's own width into the joint embedding space.

    Use it to set their learning rate apart, or to keep them as they were pretrained.

    Args:
        towers: The towers.

    Returns:
        ``proj`` of a ViT; ``c_proj`` of a ResNet's attention pool; the head behind a timm trunk or,
        without one, the trunk's own; and the text projection; as far as the model has them.

    Example:
        >>> from clipreid_kit.clip import ClipTowers
        >>> projection_names(ClipTowers.from_open_clip("reid-tiny-vit"))
        ('model.text_projection', 'model.visual.proj')
    """
    names = [name for name, _ in towers.named_parameters()]
    found = [name for name in names if _JOINT_PROJECTION.match(name)]

    has_head_behind_trunk = any(name.startswith("model.visual.head.") for name in found)
    if not has_head_behind_trunk:
        found += [name for name in names if _TRUNK_HEAD.match(name)]
    return tuple(found)


def freeze_projection(towers: ClipTowers) -> None:
    """Freeze the layers between ``unprojected`` or ``patches`` and ``projected``.

    Methods that read only the former levels would never train them.
    """
    projections = projection_names(towers)
    for name, parameter in towers.model.visual.named_parameters():
        if name.startswith(_PROJECTION_PREFIXES) or f"model.visual.{name}" in projections:
            _set_trainable(parameter, trainable=False)


def freeze_temperature(towers: ClipTowers) -> None:
    """Freeze ``logit_scale`` and ``logit_bias``.

    Methods whose losses have a temperature of their own would never train them, and
    DistributedDataParallel would wait for their gradients.
    """
    names = [name for name, _ in towers.named_parameters() if name.endswith(_LOGIT_PARAMETERS)]
    _freeze_named(towers, names)


def _freeze_named(towers: ClipTowers, names: Collection[str]) -> None:
    for name, parameter in towers.named_parameters():
        if name in names:
            _set_trainable(parameter, trainable=False)


def _num_blocks(towers: ClipTowers) -> dict[Tower, int]:
    return {position.tower: position.num_blocks for _, _, position in parameter_depths(towers)}


def _is_block_count(value: object, num_blocks: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= num_blocks


def _set_trainable(parameter: nn.Parameter, *, trainable: bool) -> None:
    parameter.requires_grad = trainable
    if not trainable:
        parameter.grad = None  # an optimiser would keep moving it along an old gradient


def _set_batch_norm_policy(towers: ClipTowers, policy: BatchNormPolicy) -> None:
    """Choose the BatchNorms that keep their running statistics, and put them into their mode."""
    frozen = set()
    for name, norm in batch_norms(towers.model.visual).items():
        trains = any(parameter.requires_grad for parameter in norm.parameters())
        if policy == "frozen" or (policy == "follow" and not trains):
            frozen.add(name)

    towers.frozen_batch_norms = frozenset(frozen)
    apply_batch_norm_mode(towers.model.visual, frozen, training=towers.training)
