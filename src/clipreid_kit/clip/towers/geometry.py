"""Image size, strides and patch grid of an image tower: as requested, and as built."""

from typing import Any, NamedTuple

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.clip.towers.backbone import BackboneTower
from clipreid_kit.clip.towers.position_embedding import PositionResize

OpenClip = Any  # a module of open_clip, whose attributes have no types

_OWNER = "ClipTowers"
_RESNET_REDUCTION = 32


class Geometry(NamedTuple):
    """Geometry requested of an image tower; ``None`` keeps the tower's own.

    Attributes:
        image_size: (height, width) in pixels.
        patch_stride: (down, across) in pixels between the patches of a ViT.
        last_stride: Stride of a ResNet's last stage, 1 or 2.
        position_resize: Method by which the position table is resized.
    """

    image_size: tuple[int, int] | None = None
    patch_stride: tuple[int, int] | None = None
    last_stride: int | None = None
    position_resize: PositionResize = "bicubic"


def check_geometry(
    image_size: object, patch_stride: object, last_stride: object, position_resize: PositionResize
) -> Geometry:
    """Check the arguments that describe a geometry, for an image tower of any kind.

    Args:
        image_size: (height, width) in pixels, or ``None``.
        patch_stride: One number or (down, across) in pixels, or ``None``.
        last_stride: 1, 2 or ``None``.
        position_resize: Method by which the position table is resized.

    Returns:
        The geometry.

    Raises:
        ValueError: If an argument is of another type or out of range.
    """
    check_choice(_OWNER, "position_resize", position_resize, ("bicubic", "clip_reid"))

    if image_size is not None:
        image_size = check_image_size(image_size)

    if patch_stride is not None:
        if isinstance(patch_stride, int) and not isinstance(patch_stride, bool):
            patch_stride = (patch_stride, patch_stride)
        patch_stride = _check_pair("patch_stride as one number or (down, across)", patch_stride)

    if last_stride is not None:
        last_stride = _check_last_stride(last_stride)

    return Geometry(image_size, patch_stride, last_stride, position_resize)


def check_image_size(image_size: object) -> tuple[int, int]:
    """Require (height, width) as two positive integers."""
    return _check_pair("image_size as (height, width)", image_size)


def image_size_of(visual: nn.Module) -> tuple[int, int]:
    """Return the (height, width) in pixels that an image tower is built for."""
    size: Any = visual.image_size
    if isinstance(size, int):
        return size, size
    return int(size[0]), int(size[1])


def geometry_of(visual: nn.Module) -> Geometry:
    """Return the geometry that an image tower has; a stride is ``None`` for a tower without one."""
    tower: Any = visual
    image_size = image_size_of(visual)

    if isinstance(visual, VisionTransformer):
        down, across = tower.conv1.stride
        return Geometry(image_size, patch_stride=(int(down), int(across)))

    if isinstance(visual, BackboneTower):
        return Geometry(image_size, last_stride=visual.last_stride)

    if isinstance(visual, ModifiedResNet):
        return Geometry(image_size, last_stride=int(tower.layer4[0].stride))

    return Geometry(image_size)


def grid_of(visual: nn.Module, requested: Geometry | None = None) -> tuple[int, int]:
    """Count the (rows, columns) of patches of an image tower.

    Args:
        visual: The image tower.
        requested: Geometry to count the patches for. ``None`` for the tower as it is.

    Returns:
        The grid of patches, or of the last feature map of a tower without patches.

    Raises:
        ValueError: If the tower cannot have that geometry.
    """
    own = geometry_of(visual)
    requested = requested or Geometry()
    check_suits_tower(visual, requested)

    tower: Any = visual
    size = requested.image_size or image_size_of(visual)

    if isinstance(visual, BackboneTower):
        return visual.grid(size)

    if isinstance(visual, VisionTransformer):
        return _cover(size, tower.conv1.kernel_size, requested.patch_stride or tower.conv1.stride)

    if isinstance(visual, ModifiedResNet):
        last_stride = requested.last_stride or own.last_stride or 2
        reduction = _RESNET_REDUCTION // 2 * last_stride
        return _cover(size, (reduction, reduction), (reduction, reduction))

    patch = timm_patch_size(tower.trunk)
    if patch is not None:
        return _cover(size, patch, patch)

    stages = getattr(tower.trunk, "feature_info", None)
    reduction = int(stages[-1]["reduction"]) if stages else _RESNET_REDUCTION
    return -(-size[0] // reduction), -(-size[1] // reduction)  # rounded up


def timm_patch_size(trunk: nn.Module) -> tuple[int, int] | None:
    """Return the (height, width) of the patches of a timm trunk; ``None`` if it has none."""
    ratio = getattr(getattr(trunk, "patch_embed", None), "feat_ratio", None)
    if not callable(ratio):
        return None

    height, width = ratio(as_scalar=False)
    return int(height), int(width)


def check_suits_tower(visual: nn.Module, requested: Geometry) -> None:
    """Raise ValueError if a stride or a method is not one for an image tower of this kind."""
    has_trunk = isinstance(visual, TimmModel | BackboneTower)
    kind = type(visual.trunk if has_trunk else visual).__name__

    if requested.patch_stride is not None and not isinstance(visual, VisionTransformer):
        raise fail(
            _OWNER,
            "patch_stride for a ViT of open_clip only",
            f"{requested.patch_stride} for {kind}",
        )

    is_resnet = isinstance(visual, ModifiedResNet) or (
        isinstance(visual, BackboneTower) and visual.last_stride is not None
    )
    if requested.last_stride is not None and not is_resnet:
        raise fail(
            _OWNER,
            "last_stride for a ResNet only",
            f"{requested.last_stride} for {kind}",
        )

    if requested.position_resize != "bicubic" and has_trunk:
        raise fail(
            _OWNER,
            'position_resize="bicubic" for a trunk of timm or torchvision',
            repr(requested.position_resize),
        )


def _check_pair(expected: str, value: object) -> tuple[int, int]:
    if isinstance(value, tuple | list) and len(value) == 2:
        first, second = value
        if _is_positive_int(first) and _is_positive_int(second):
            return int(first), int(second)

    raise fail(_OWNER, f"{expected} in pixels, or None", repr(value))


def _is_positive_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_last_stride(value: object) -> int:
    if isinstance(value, bool) or value not in (1, 2):
        raise fail(_OWNER, "last_stride to be 1, 2 or None", repr(value))
    return 1 if value == 1 else 2


def _cover(
    image_size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
    """Count the patches along both sides.

    An image size that leaves pixels unread is refused, unless the patches overlap.
    """
    overlapping = patch[0] > stride[0] or patch[1] > stride[1]
    counts = []
    covered = True

    for side, length, step in zip(image_size, patch, stride, strict=True):
        steps, unread = divmod(side - length, step)
        counts.append(steps + 1)
        if steps < 0 or (unread and not overlapping):
            covered = False

    if not covered:
        height, width = (
            length + max(0, round((side - length) / step)) * step
            for side, length, step in zip(image_size, patch, stride, strict=True)
        )
        raise fail(
            _OWNER,
            f"an image size that patches of {patch[0]} x {patch[1]} "
            f"(stride {stride[0]} x {stride[1]}) cover",
            f"{image_size[0]} x {image_size[1]}",
            f"The nearest is {height} x {width}.",
        )

    return counts[0], counts[1]
