"""Position tables and strides of open_clip's image towers, and how to change them."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.towers.grid import (
    Geometry,
    OpenClip,
    check_image_size,
    grid_of,
    image_size_of,
)
from clipreid_kit.clip.towers.position_embedding import PositionResize, resize_position_embedding

_OWNER = "ClipTowers"


@dataclass(frozen=True)
class PositionTable:
    """A table of position embeddings inside an image tower.

    Attributes:
        key: Name of the parameter, as seen from the image tower.
        grid: (rows, columns) of patches that it is for.
        num_prefix: Rows before the grid.
    """

    key: str
    grid: tuple[int, int]
    num_prefix: int


def position_table(visual: nn.Module, wanted: Geometry | None = None) -> PositionTable | None:
    """Describe the position table of an image tower, in its own geometry or in another.

    Args:
        visual: The image tower.
        wanted: The geometry to describe the table for; ``None`` for the tower's own.

    Returns:
        ``None`` for a tower without such a table (ConvNeXt, rotary or relative positions only).

    Raises:
        ValueError: If the tower cannot have that geometry.
    """
    if isinstance(visual, VisionTransformer):
        return PositionTable("positional_embedding", grid_of(visual, wanted), 1)
    if isinstance(visual, ModifiedResNet):
        return PositionTable("attnpool.positional_embedding", grid_of(visual, wanted), 1)
    trunk: Any = getattr(visual, "trunk", None)
    table = getattr(trunk, "pos_embed", None)
    patches: Any = getattr(trunk, "patch_embed", None)
    if not isinstance(table, Tensor) or table.ndim != 3 or not hasattr(patches, "grid_size"):
        return None
    prefix = (
        0
        if getattr(trunk, "no_embed_class", False)
        else int(getattr(trunk, "num_prefix_tokens", 0))
    )
    if table.shape[1] != prefix + math.prod(patches.grid_size):
        return None
    rows, columns = (
        patches.grid_size
        if wanted is None or wanted.image_size is None
        else grid_of(visual, wanted)
    )
    return PositionTable("trunk.pos_embed", (int(rows), int(columns)), prefix)


def set_geometry(visual: nn.Module, wanted: Geometry) -> None:
    """Change the geometry of an image tower in place, its weights kept and its position table resized.

    The table becomes a new Parameter, so do this before the optimiser is made.

    Args:
        visual: The image tower.
        wanted: The geometry.

    Raises:
        ValueError: If the tower cannot have it; then nothing is changed.
    """
    if isinstance(visual, TimmModel):
        grid_of(visual, wanted)
        if wanted.image_size is not None and wanted.image_size != image_size_of(visual):
            _set_timm_image_size(visual, wanted.image_size)
        return
    old, new = position_table(visual), None
    if old is not None:
        new = position_table(visual, wanted)
    if old is None or new is None:
        raise fail(_OWNER, "an image tower whose size can change", type(visual).__name__)
    if new.grid != old.grid:
        module_name, _, name = old.key.rpartition(".")
        table = visual.get_parameter(old.key)
        with torch.no_grad():
            resized = resize_position_embedding(
                table, old.grid, new.grid, num_prefix=old.num_prefix, method=wanted.position_resize
            ).clone()
        setattr(
            visual.get_submodule(module_name),
            name,
            nn.Parameter(resized, requires_grad=table.requires_grad),
        )
    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        tower.grid_size = new.grid
        tower.conv1.stride = wanted.patch_stride or tower.conv1.stride
    elif wanted.last_stride is not None:
        _set_last_stride(tower.layer4[0], wanted.last_stride)
    tower.image_size = wanted.image_size or image_size_of(visual)


def has_own_table_rows(visual: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Say whether a checkpoint's position table has as many rows as the tower's, or either has none."""
    own = position_table(visual)
    table = (
        None
        if own is None
        else state.get(f"visual.{own.key}", state.get(f"model.visual.{own.key}"))
    )
    if own is None or table is None or table.ndim < 2:
        return True
    return table.shape[-2] == visual.get_parameter(own.key).shape[-2]


def fit_position_table(
    visual: nn.Module,
    state: Mapping[str, Tensor],
    source_image_size: tuple[int, int] | None,
    method: PositionResize = "bicubic",
) -> dict[str, Tensor]:
    """Resize the position table of a checkpoint to the grid of an image tower.

    Args:
        visual: The image tower.
        state: The checkpoint, under open_clip's names (``visual.`` before those of the tower).
        source_image_size: (height, width) in pixels of the checkpoint; ``None`` to tell it from the rows.
        method: As for :func:`resize_position_embedding`.

    Returns:
        The resized table under its name; empty where nothing has to be resized, or where the tables have
        nothing to do with each other.

    Raises:
        ValueError: If the table may be for a square grid or for the tower's own.
    """
    own = position_table(visual)
    key = "" if own is None else f"visual.{own.key}"
    if own is None or key not in state:
        return {}
    table, current = state[key], visual.get_parameter(own.key)
    if table.ndim != current.ndim or table.shape[-1] != current.shape[-1]:
        return {}
    num_patches = table.shape[-2] - own.num_prefix
    if source_image_size is None:
        grid = _grid_by_rows(num_patches, own.grid)
    else:
        grids = _source_grids(visual, check_image_size(source_image_size))
        grid = next((source for source in grids if math.prod(source) == num_patches), None)
    if grid is None or grid == own.grid:
        return {}
    rows = table.reshape(-1, table.shape[-1])
    resized = resize_position_embedding(
        rows, grid, own.grid, num_prefix=own.num_prefix, method=method
    )
    return {key: resized.reshape(current.shape)}


def _grid_by_rows(num_patches: int, own: tuple[int, int]) -> tuple[int, int] | None:
    side = math.isqrt(max(0, num_patches))
    square = (side, side) if side > 0 and side * side == num_patches else None
    if num_patches != math.prod(own):
        return square
    if square is not None and square != own:
        raise fail(
            _OWNER,
            "to know the grid that the checkpoint's position table is for",
            f"{num_patches} patches, which may be {side} x {side} or {own[0]} x {own[1]}",
            "Pass source_image_size, the (height, width) that the checkpoint was trained at.",
        )
    return own


def _source_grids(visual: nn.Module, size: tuple[int, int]) -> list[tuple[int, int]]:
    """List the grids that a checkpoint of that image size may have: with the tower's strides, or with native ones."""
    native = Geometry(size)
    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        native = Geometry(size, patch_stride=tower.conv1.kernel_size)
    elif isinstance(visual, ModifiedResNet):
        native = Geometry(size, last_stride=2)
    try:
        grids = [grid_of(visual, Geometry(size))]
    except ValueError:
        return [grid_of(visual, native)]
    with suppress(ValueError):
        grids.append(grid_of(visual, native))
    return grids


def _set_last_stride(block: OpenClip, stride: int) -> None:
    # these pools have no weights, so a checkpoint does not notice
    block.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
    block.downsample[0] = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
    block.stride = stride


def _set_timm_image_size(visual: TimmModel, image_size: tuple[int, int]) -> None:
    height, width = image_size
    native, training = image_size_of(visual), visual.training
    weight = next(visual.parameters())
    try:
        if hasattr(visual.trunk, "set_input_size"):
            visual.trunk.set_input_size(image_size)
        # a trunk says only in its forward whether it takes a size
        with torch.no_grad():
            visual.eval()(weight.new_zeros(1, 3, height, width))
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise fail(
            _OWNER,
            f"an image size that {type(visual.trunk).__name__} takes",
            f"{height} x {width} ({error})",
            f"This trunk may be fixed to its native {native[0]} x {native[1]}: leave image_size out.",
        ) from None
    finally:
        visual.train(training)
    visual.image_size = image_size
