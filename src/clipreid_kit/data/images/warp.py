"""Distortions that make another identity of a picture."""

from collections.abc import Callable
from typing import Literal

from PIL import Image
from torchvision.transforms import v2

from clipreid_kit._checks import fail
from clipreid_kit.data.images.image_spec import check_between, check_fill


def warp_transform(
    *,
    orientations: Literal[1, 4, 8] = 1,
    rotation: float = 0.0,
    shear: float = 0.0,
    perspective: float = 0.0,
    fill: int | tuple[int, int, int] = 0,
) -> Callable[[Image.Image], Image.Image]:
    """Distort a picture as a whole, to make another identity of it.

    Use it as ``identity_transform`` of a :class:`ReidDataset`, where all images of an identity are distorted
    alike: for line drawings and the like, whose shape is the identity.

    Args:
        orientations: 4 turns the picture by a random multiple of 90 degrees, 8 mirrors it as well (half of the
            time), 1 leaves it. Unlike ``ReidDataset(orientations=...)`` an identity has one orientation at a
            time, so that a symmetric shape is never its own negative.
        rotation: Largest angle in degrees, either way, in [0, 180].
        shear: Largest angle of shear along each axis in degrees, either way, in [0, 89].
        perspective: How far each corner may move inwards, as a fraction of half the side, in [0, 1].
        fill: Colour in 0..255 of what is uncovered.

    Returns:
        A callable from an RGB picture to one of the same size; with nothing to do it returns the picture.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> warp = warp_transform(rotation=15.0, shear=20.0, perspective=0.3, fill=255)
        >>> warp(Image.new("RGB", (5, 7), "white")).size
        (5, 7)
    """
    owner = "warp_transform"
    if orientations not in (1, 4, 8):
        raise fail(owner, "orientations to be 1, 4 or 8", orientations)
    check_between(owner, "rotation", rotation, 180, " degrees")
    check_between(owner, "shear", shear, 89, " degrees")
    check_between(owner, "perspective", perspective, 1)
    check_fill(owner, fill)
    bilinear = v2.InterpolationMode.BILINEAR
    steps: list[v2.Transform] = []
    if orientations > 1:
        steps.append(
            v2.RandomChoice([v2.RandomRotation((angle, angle)) for angle in (0, 90, 180, 270)])
        )
    if orientations == 8:
        steps.append(v2.RandomHorizontalFlip())
    if rotation or shear:
        angles = [-shear, shear, -shear, shear] if shear else None
        steps.append(
            v2.RandomAffine(degrees=rotation, shear=angles, interpolation=bilinear, fill=fill)
        )
    if perspective:
        steps.append(v2.RandomPerspective(perspective, p=1.0, interpolation=bilinear, fill=fill))
    warp: Callable[[Image.Image], Image.Image] = v2.Compose(steps) if steps else v2.Identity()
    return warp
