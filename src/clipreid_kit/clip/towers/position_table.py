"""The position table of an image tower, and tables of checkpoints resized to its grid."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionViT

from clipreid_kit.clip.towers.backbone import BackboneTower
from clipreid_kit.clip.towers.geometry import Geometry, check_image_size, grid_of
from clipreid_kit.clip.towers.position_embedding import PositionResize, resize_position_embedding


@dataclass(frozen=True)
class PositionTable:
    """A table of position embeddings inside an image tower.

    Attributes:
        key: Name of the parameter inside the image tower.
        grid: (rows, columns) of patches that the table is for.
        num_prefix: Number of rows before the grid.
    """

    key: str
    grid: tuple[int, int]
    num_prefix: int


def position_table(visual: nn.Module, requested: Geometry | None = None) -> PositionTable | None:
    """Describe the position table of an image tower, in its own geometry or in another.

    Args:
        visual: The image tower.
        requested: Geometry to describe the table for. ``None`` for the tower's own.

    Returns:
        ``None`` for a tower without a table (ConvNeXt, rotary or relative positions only).

    Raises:
        ValueError: If the tower cannot have that geometry.
    """
    if isinstance(visual, VisionTransformer):
        return PositionTable("positional_embedding", grid_of(visual, requested), 1)

    if isinstance(visual, ModifiedResNet):
        return PositionTable("attnpool.positional_embedding", grid_of(visual, requested), 1)

    if isinstance(visual, BackboneTower) and visual.library == "torchvision":
        return _torchvision_position_table(visual)
    return _timm_position_table(visual, requested)


def has_native_table_rows(visual: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Return whether a checkpoint's position table has as many rows as the tower's.

    Args:
        visual: The image tower, at its native size.
        state: The checkpoint, with or without ``model.`` before its names.

    Returns:
        Whether the two have as many rows; also true if either has no table.
    """
    own = position_table(visual)
    if own is None:
        return True

    key = f"visual.{own.key}"
    table = state.get(key, state.get(f"model.{key}"))
    if table is None or table.ndim < 2:
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
        source_image_size: (height, width) in pixels that the checkpoint was trained at. ``None``
            infers the grid from the number of rows.
        method: As for :func:`resize_position_embedding`.

    Returns:
        The resized table under its name; empty if nothing has to be resized, or if the two tables
        are not of the same kind.

    Raises:
        ValueError: If the table may be for a square grid as well as for the tower's own.
    """
    own = position_table(visual)
    if own is None:
        return {}

    key = f"visual.{own.key}"
    if key not in state:
        return {}

    table = state[key]
    current = visual.get_parameter(own.key)
    if table.ndim != current.ndim or table.shape[-1] != current.shape[-1]:
        return {}

    grid = _source_grid(visual, own, table.shape[-2] - own.num_prefix, source_image_size)
    if grid is None or grid == own.grid:
        return {}

    rows = table.reshape(-1, table.shape[-1])
    resized = resize_position_embedding(
        rows, grid, own.grid, num_prefix=own.num_prefix, method=method
    )
    return {key: resized.reshape(current.shape)}


def _timm_position_table(visual: nn.Module, requested: Geometry | None) -> PositionTable | None:
    trunk: Any = getattr(visual, "trunk", None)
    table = getattr(trunk, "pos_embed", None)
    patches: Any = getattr(trunk, "patch_embed", None)
    if not isinstance(table, Tensor) or table.ndim != 3 or not hasattr(patches, "grid_size"):
        return None

    num_prefix = 0
    if not getattr(trunk, "no_embed_class", False):
        num_prefix = int(getattr(trunk, "num_prefix_tokens", 0))
    if table.shape[1] != num_prefix + math.prod(patches.grid_size):
        return None

    if requested is None or requested.image_size is None:
        rows, columns = patches.grid_size
    else:
        rows, columns = grid_of(visual, requested)
    return PositionTable("trunk.pos_embed", (int(rows), int(columns)), num_prefix)


def _torchvision_position_table(visual: BackboneTower) -> PositionTable | None:
    if not isinstance(visual.trunk, TorchvisionViT):
        return None
    return PositionTable("trunk.encoder.pos_embedding", visual.shape.grid, 1)


def _source_grid(
    visual: nn.Module,
    own: PositionTable,
    num_patches: int,
    source_image_size: tuple[int, int] | None,
) -> tuple[int, int] | None:
    """Grid of a checkpoint's table; ``None`` if no grid has that many patches."""
    if source_image_size is None:
        return _grid_from_rows(num_patches, own.grid)

    for grid in _possible_grids(visual, check_image_size(source_image_size)):
        if math.prod(grid) == num_patches:
            return grid
    return None


def _grid_from_rows(num_patches: int, own: tuple[int, int]) -> tuple[int, int] | None:
    """Take the tower's own grid if it has as many patches, else a square one."""
    side = math.isqrt(max(0, num_patches))
    square = (side, side) if side > 0 and side * side == num_patches else None

    if num_patches != math.prod(own):
        return square

    if square is not None and square != own:
        raise ValueError(
            f"ClipTowers: The checkpoint's position table has {num_patches} patches, which may be "
            f"{side} x {side} or {own[0]} x {own[1]}. Pass source_image_size, the (height, width) "
            "that the checkpoint was trained at."
        )
    return own


def _possible_grids(visual: nn.Module, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Grids of a checkpoint of that image size, with the tower's strides or with native ones."""
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
