"""Change the image size and strides of an image tower, with its weights kept."""

from typing import Any

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.backbone import BackboneTower
from clipreid_kit.clip.towers.geometry import (
    Geometry,
    OpenClip,
    check_suits_tower,
    grid_of,
    image_size_of,
)
from clipreid_kit.clip.towers.position_embedding import PositionResize, resize_position_embedding
from clipreid_kit.clip.towers.position_table import PositionTable, position_table

_OWNER = "ClipTowers"


def set_geometry(visual: nn.Module, requested: Geometry) -> None:
    """Change the geometry of an image tower in place; keep its weights, resize its table.

    The table becomes a new Parameter, so call this before the optimiser is made.

    Args:
        visual: The image tower.
        requested: The geometry.

    Raises:
        ValueError: If the tower cannot have that geometry; then nothing is changed.
    """
    if isinstance(visual, BackboneTower):
        check_suits_tower(visual, requested)
        visual.set_image_size(requested.image_size or visual.image_size)
        if requested.last_stride is not None:
            visual.set_last_stride(requested.last_stride)
    elif isinstance(visual, TimmModel):
        _set_timm_geometry(visual, requested)
    else:
        _set_open_clip_geometry(visual, requested)


def _set_open_clip_geometry(visual: nn.Module, requested: Geometry) -> None:
    old = position_table(visual)
    new = None if old is None else position_table(visual, requested)
    if old is None or new is None:
        raise fail(_OWNER, "an image tower whose size can change", type(visual).__name__)

    if new.grid != old.grid:
        _resize_table(visual, old, new.grid, requested.position_resize)

    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        tower.grid_size = new.grid
        tower.conv1.stride = requested.patch_stride or tower.conv1.stride
    elif requested.last_stride is not None:
        _set_last_stride(tower.layer4[0], requested.last_stride)

    tower.image_size = requested.image_size or image_size_of(visual)


def _resize_table(
    visual: nn.Module, old: PositionTable, grid: tuple[int, int], method: PositionResize
) -> None:
    """Replace the position table by one for another grid, frozen if the old one was."""
    table = visual.get_parameter(old.key)
    with torch.no_grad():
        resized = resize_position_embedding(
            table, old.grid, grid, num_prefix=old.num_prefix, method=method
        ).clone()

    module_name, _, name = old.key.rpartition(".")
    parameter = nn.Parameter(resized, requires_grad=table.requires_grad)
    setattr(visual.get_submodule(module_name), name, parameter)


def _set_last_stride(block: OpenClip, stride: int) -> None:
    """Set the stride of the first block of a stage; its pools have no weights, so none is lost."""
    block.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
    block.downsample[0] = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
    block.stride = stride


def _set_timm_geometry(visual: TimmModel, requested: Geometry) -> None:
    grid_of(visual, requested)  # raises if the tower cannot have it
    native = image_size_of(visual)
    image_size = requested.image_size
    if image_size is None or image_size == native:
        return

    height, width = image_size
    training = visual.training
    weight = next(visual.parameters())

    try:
        if hasattr(visual.trunk, "set_input_size"):
            visual.trunk.set_input_size(image_size)
        # only its forward shows whether a trunk takes a size
        with torch.no_grad():
            visual.eval()(weight.new_zeros(1, 3, height, width))
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise fail(
            _OWNER,
            f"an image size that {type(visual.trunk).__name__} takes",
            f"{height} x {width} ({error})",
            f"This trunk may be fixed to its native {native[0]} x {native[1]}: "
            "leave image_size out.",
        ) from None
    finally:
        visual.train(training)

    visual.image_size = image_size
