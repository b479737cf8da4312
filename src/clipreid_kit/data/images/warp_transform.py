"""Random distortions that turn the images of one identity into those of another."""

from collections.abc import Callable
from typing import Literal

from PIL import Image

from clipreid_kit._checks import fail
from clipreid_kit.data.images._image_checks import check_between, check_fill


def warp_transform(
    *,
    orientations: Literal[1, 4, 8] = 1,
    rotation: float = 0.0,
    shear: float = 0.0,
    perspective: float = 0.0,
    fill: int | tuple[int, int, int] = 0,
) -> Callable[[Image.Image], Image.Image]:
    """Return a random distortion of a whole image, which makes another identity of it.

    Use it as ``identity_transform`` of a :class:`ReidDataset`, where all images of an identity are
    distorted alike: for line drawings and other images whose shape is the identity.

    Args:
        orientations: 4 rotates the image by a random multiple of 90 degrees; 8 also mirrors it,
            half of the time; 1 does neither. Unlike ``ReidDataset(orientations=...)`` an identity
            has one orientation at a time, so that a symmetric shape is never its own negative.
        rotation: Largest angle in degrees, in both directions, in [0, 180].
        shear: Largest angle of shear along each axis in degrees, in both directions, in [0, 89].
        perspective: How far each corner may move inwards, as a fraction of half the side, in [0,
            1].
        fill: Colour in 0..255 of the area that a distortion uncovers: one grey value or (red,
            green, blue).

    Returns:
        A callable from an RGB image to an RGB image of the same size; with the defaults it returns
        the image itself.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> warp = warp_transform(rotation=15.0, shear=20.0, perspective=0.3, fill=255)
        >>> warp(Image.new("RGB", (5, 7), "white")).size
        (5, 7)
    """
    if orientations not in (1, 4, 8):
        raise fail("warp_transform", "orientations to be 1, 4 or 8", repr(orientations))
    check_between("warp_transform", "rotation", rotation, 180, " degrees")
    check_between("warp_transform", "shear", shear, 89, " degrees")
    check_between("warp_transform", "perspective", perspective, 1)
    check_fill("warp_transform", fill)

    from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    steps: list[v2.Transform] = []

    if orientations > 1:
        quarter_turns = [v2.RandomRotation((angle, angle)) for angle in (0, 90, 180, 270)]
        steps.append(v2.RandomChoice(quarter_turns))
    if orientations == 8:
        steps.append(v2.RandomHorizontalFlip())

    if rotation or shear:
        shears = [-shear, shear, -shear, shear] if shear else None
        steps.append(v2.RandomAffine(rotation, shear=shears, interpolation=bilinear, fill=fill))
    if perspective:
        steps.append(v2.RandomPerspective(perspective, p=1.0, interpolation=bilinear, fill=fill))

    warp: Callable[[Image.Image], Image.Image] = v2.Compose(steps) if steps else v2.Identity()
    return warp
