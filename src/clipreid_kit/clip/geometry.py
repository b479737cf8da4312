"""Image size of open_clip's image towers: what it is, and how to change it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import describe, fail
from clipreid_kit.clip.position import resize_position_embedding

_OWNER = "ClipTowers"
_RESNET_STRIDE = 32


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


def image_size_of(visual: nn.Module) -> tuple[int, int]:
    """Read the (height, width) in pixels that an image tower is built for."""
    size: Any = visual.image_size
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def check_image_size(image_size: object) -> tuple[int, int]:
    """Require (height, width) as two positive integers."""
    if (
        not isinstance(image_size, tuple | list)
        or len(image_size) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in image_size)
    ):
        raise fail(_OWNER, "image_size as (height, width) in pixels, or None", repr(image_size))
    return int(image_size[0]), int(image_size[1])


def check_images(images: Tensor, image_size: tuple[int, int]) -> None:
    """Require floating-point pictures (N, 3, H, W) of one size."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise fail("encode_image", "images as floating-point (N, 3, H, W)", describe(images))
    if tuple(images.shape[2:]) != image_size:
        raise fail(
            "encode_image",
            f"images of {image_size[0]} x {image_size[1]}",
            f"{images.shape[2]} x {images.shape[3]}",
            "Resize the images, or build the towers with that image_size.",
        )


def position_table(visual: nn.Module, image_size: tuple[int, int] | None = None) -> PositionTable | None:
    """Describe the position table of an image tower, at its own image size or at another.

    Args:
        visual: The image tower.
        image_size: (height, width) in pixels to describe the table for; ``None`` for the tower's own.

    Returns:
        ``None`` for a tower without such a table (ConvNeXt, rotary or relative positions only).

    Raises:
        ValueError: If the tower cannot have that image size.
    """
    if isinstance(visual, VisionTransformer):
        grid = visual.grid_size if image_size is None else _vit_grid(visual, image_size)
        return PositionTable("positional_embedding", (grid[0], grid[1]), 1)
    if isinstance(visual, ModifiedResNet):
        return PositionTable("attnpool.positional_embedding", _resnet_grid(image_size or image_size_of(visual)), 1)
    trunk: Any = getattr(visual, "trunk", None)
    table = getattr(trunk, "pos_embed", None)
    patches: Any = getattr(trunk, "patch_embed", None)
    if not isinstance(table, Tensor) or table.ndim != 3 or not hasattr(patches, "grid_size"):
        return None
    prefix = 0 if getattr(trunk, "no_embed_class", False) else int(getattr(trunk, "num_prefix_tokens", 0))
    if table.shape[1] != prefix + math.prod(patches.grid_size):
        return None
    if image_size is None:
        rows, columns = patches.grid_size
    else:
        ratio = _timm_patch(trunk) or (1, 1)
        rows, columns = image_size[0] // ratio[0], image_size[1] // ratio[1]
    return PositionTable("trunk.pos_embed", (int(rows), int(columns)), prefix)


def set_image_size(visual: nn.Module, image_size: tuple[int, int]) -> None:
    """Change the image size of an image tower in place, its weights kept and its position table resized.

    The table becomes a new Parameter, so do this before the optimiser is made.

    Args:
        visual: The image tower.
        image_size: (height, width) in pixels.

    Raises:
        ValueError: If the tower cannot have that image size.
    """
    if isinstance(visual, TimmModel):
        _set_timm_image_size(visual, image_size)
        return
    old, new = position_table(visual), position_table(visual, image_size)
    if old is None or new is None:
        raise fail(_OWNER, "an image tower whose size can change", type(visual).__name__)
    module_name, _, name = old.key.rpartition(".")
    table = visual.get_parameter(old.key)
    with torch.no_grad():
        resized = resize_position_embedding(table, old.grid, new.grid, num_prefix=old.num_prefix).clone()
    setattr(visual.get_submodule(module_name), name, nn.Parameter(resized, requires_grad=table.requires_grad))
    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        tower.grid_size = new.grid
    tower.image_size = image_size


def has_own_table_rows(visual: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Say whether a checkpoint's position table has as many rows as the tower's, or either has none."""
    own = position_table(visual)
    table = None if own is None else state.get(f"visual.{own.key}", state.get(f"model.visual.{own.key}"))
    if own is None or table is None or table.ndim < 2:
        return True
    return table.shape[-2] == visual.get_parameter(own.key).shape[-2]


def fit_position_table(
    visual: nn.Module, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None
) -> dict[str, Tensor]:
    """Resize the position table of a checkpoint to the grid of an image tower.

    Args:
        visual: The image tower.
        state: The checkpoint, under open_clip's names (``visual.`` before those of the tower).
        source_image_size: (height, width) in pixels of the checkpoint; ``None`` to tell it from the rows.

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
        source = position_table(visual, check_image_size(source_image_size))
        grid = None if source is None or math.prod(source.grid) != num_patches else source.grid
    if grid is None or grid == own.grid:
        return {}
    rows = table.reshape(-1, table.shape[-1])
    resized = resize_position_embedding(rows, grid, own.grid, num_prefix=own.num_prefix)
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


def _vit_grid(visual: VisionTransformer, image_size: tuple[int, int]) -> tuple[int, int]:
    return _grid(image_size, visual.conv1.kernel_size, visual.conv1.stride)


def _resnet_grid(image_size: tuple[int, int]) -> tuple[int, int]:
    return _grid(image_size, (_RESNET_STRIDE, _RESNET_STRIDE), (_RESNET_STRIDE, _RESNET_STRIDE))


def _grid(image_size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """Count the patches along both sides; a size that leaves pixels unread is refused, unless patches overlap."""
    steps = [divmod(side - size, step) for side, size, step in zip(image_size, patch, stride, strict=True)]
    apart = patch[0] <= stride[0] and patch[1] <= stride[1]
    if any(count < 0 or (rest and apart) for count, rest in steps):
        near = [
            size + max(0, round((side - size) / step)) * step
            for side, size, step in zip(image_size, patch, stride, strict=True)
        ]
        raise fail(
            _OWNER,
            f"an image size that patches of {patch[0]} x {patch[1]} (stride {stride[0]} x {stride[1]}) cover",
            f"{image_size[0]} x {image_size[1]}",
            f"The nearest is {near[0]} x {near[1]}.",
        )
    return steps[0][0] + 1, steps[1][0] + 1


def _timm_patch(trunk: nn.Module) -> tuple[int, int] | None:
    ratio = getattr(getattr(trunk, "patch_embed", None), "feat_ratio", None)
    if not callable(ratio):
        return None
    rows, columns = ratio(as_scalar=False)
    return int(rows), int(columns)


def _set_timm_image_size(visual: TimmModel, image_size: tuple[int, int]) -> None:
    patch = _timm_patch(visual.trunk)
    if patch is not None:
        _grid(image_size, patch, patch)
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
