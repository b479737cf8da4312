"""Image sizes, strides and grids of open_clip's image towers."""

from typing import Any, NamedTuple

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, describe, fail
from clipreid_kit.clip.towers.position_embedding import PositionResize

OpenClip = Any  # a module of open_clip, whose attributes have no types

_OWNER = "ClipTowers"
_RESNET_STRIDE = 32


class Geometry(NamedTuple):
    """What is asked of an image tower; ``None`` leaves the tower's own.

    Attributes:
        image_size: (height, width) in pixels.
        patch_stride: (down, across) in pixels between patches of a ViT.
        last_stride: Stride of a ResNet's last stage, 1 or 2.
        position_resize: How the position table is resized.
    """

    image_size: tuple[int, int] | None = None
    patch_stride: tuple[int, int] | None = None
    last_stride: int | None = None
    position_resize: PositionResize = "bicubic"


def check_geometry(
    image_size: object, patch_stride: object, last_stride: object, position_resize: PositionResize
) -> Geometry:
    """Require arguments that describe a geometry, for whichever tower."""
    if last_stride is not None and last_stride not in (1, 2):
        raise fail(_OWNER, "last_stride to be 1, 2 or None", repr(last_stride))
    if isinstance(patch_stride, int) and not isinstance(patch_stride, bool):
        patch_stride = (patch_stride, patch_stride)
    check_choice(_OWNER, "position_resize", position_resize, ("bicubic", "clip_reid"))
    return Geometry(
        None if image_size is None else check_image_size(image_size),
        None
        if patch_stride is None
        else _pair("patch_stride as one number or (down, across)", patch_stride),
        None if last_stride is None else int(str(last_stride)),
        position_resize,
    )


def check_image_size(image_size: object) -> tuple[int, int]:
    """Require (height, width) as two positive integers."""
    return _pair("image_size as (height, width)", image_size)


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


def image_size_of(visual: nn.Module) -> tuple[int, int]:
    """Read the (height, width) in pixels that an image tower is built for."""
    size: Any = visual.image_size
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def geometry_of(visual: nn.Module) -> Geometry:
    """Read the geometry that an image tower has; strides are ``None`` where it has none of that kind."""
    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        return Geometry(
            image_size_of(visual),
            patch_stride=(int(tower.conv1.stride[0]), int(tower.conv1.stride[1])),
        )
    if isinstance(visual, ModifiedResNet):
        return Geometry(image_size_of(visual), last_stride=int(tower.layer4[0].stride))
    return Geometry(image_size_of(visual))


def grid_of(visual: nn.Module, wanted: Geometry | None = None) -> tuple[int, int]:
    """Count (rows, columns) of patches, of the tower as it is or with another geometry.

    Raises:
        ValueError: If the tower cannot have that geometry.
    """
    own, wanted = geometry_of(visual), wanted or Geometry()
    size = wanted.image_size or image_size_of(visual)
    tower: Any = visual
    _refuse_strides(visual, wanted)
    if isinstance(visual, VisionTransformer):
        return _cover(size, tower.conv1.kernel_size, wanted.patch_stride or tower.conv1.stride)
    if isinstance(visual, ModifiedResNet):
        total = _RESNET_STRIDE // 2 * (wanted.last_stride or own.last_stride or 2)
        return _cover(size, (total, total), (total, total))
    patch = timm_patch(tower.trunk)
    if patch is not None:
        return _cover(size, patch, patch)
    stages = getattr(tower.trunk, "feature_info", None)
    total = int(stages[-1]["reduction"]) if stages else _RESNET_STRIDE
    return -(-size[0] // total), -(-size[1] // total)


def timm_patch(trunk: nn.Module) -> tuple[int, int] | None:
    """Read the (height, width) of the patches of a timm trunk; ``None`` if it has none."""
    ratio = getattr(getattr(trunk, "patch_embed", None), "feat_ratio", None)
    if not callable(ratio):
        return None
    rows, columns = ratio(as_scalar=False)
    return int(rows), int(columns)


def _refuse_strides(visual: nn.Module, wanted: Geometry) -> None:
    kind = type(visual.trunk).__name__ if isinstance(visual, TimmModel) else type(visual).__name__
    if wanted.patch_stride is not None and not isinstance(visual, VisionTransformer):
        raise fail(
            _OWNER, "patch_stride for a ViT of open_clip only", f"{wanted.patch_stride} for {kind}"
        )
    if wanted.last_stride is not None and not isinstance(visual, ModifiedResNet):
        raise fail(
            _OWNER, "last_stride for a ResNet of open_clip only", f"{wanted.last_stride} for {kind}"
        )
    if wanted.position_resize != "bicubic" and isinstance(visual, TimmModel):
        raise fail(
            _OWNER, 'position_resize="bicubic" for a trunk of timm', repr(wanted.position_resize)
        )


def _pair(name: str, value: object) -> tuple[int, int]:
    if (
        not isinstance(value, tuple | list)
        or len(value) != 2
        or not all(
            isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in value
        )
    ):
        raise fail(_OWNER, f"{name} in pixels, or None", repr(value))
    return int(value[0]), int(value[1])


def _cover(
    image_size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
    """Count the patches along both sides; a size that leaves pixels unread is refused, unless patches overlap."""
    steps = [
        divmod(side - size, step)
        for side, size, step in zip(image_size, patch, stride, strict=True)
    ]
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
