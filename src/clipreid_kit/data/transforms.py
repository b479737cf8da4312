"""From a PIL picture to the tensor that an image tower takes: one home of CLIP's statistics."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from PIL import Image
from torch import Tensor, float32
from torchvision.transforms import v2

from clipreid_kit._checks import check_at_least, check_positive, fail

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green and blue in [0, 1] that the OpenAI and LAION models were trained with."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of red, green and blue in [0, 1] that the OpenAI and LAION models were trained with."""


def eval_transform(
    image_size: int | tuple[int, int],
    *,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
) -> Callable[[Image.Image], Tensor]:
    """Resize and normalise, with nothing random.

    Use it for queries, galleries and anything that is only looked at, with the same ``image_size``, ``mean``
    and ``std`` as in training.

    Args:
        image_size: (height, width) in pixels, or one number for a square, >= 1. The picture is resized to
            exactly this (bicubic with antialiasing), whatever its aspect.
        mean: What is subtracted from red, green and blue in [0, 1]; CLIP's by default.
        std: What the difference is divided by, > 0; CLIP's by default.

    Returns:
        A callable that takes an RGB picture and returns a float32 tensor (3, height, width). It is a
        torchvision ``Compose``: picklable, and its ``repr`` lists the steps.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> white = Image.new("RGB", (5, 7), "white")
        >>> image = eval_transform((4, 2), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(white)
        >>> image.shape, image.unique()
        (torch.Size([3, 4, 2]), tensor([1.]))
    """
    size = _size("eval_transform", image_size)
    _check_statistics("eval_transform", mean, std)
    transform: Callable[[Image.Image], Tensor] = v2.Compose([_resize(size), *_to_normalised(mean, std)])
    return transform


def train_transform(
    image_size: int | tuple[int, int],
    *,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    horizontal_flip: float = 0.5,
    pad: int = 0,
    color_jitter: float = 0.0,
    rotation: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
    perspective: float = 0.0,
    fill: int | tuple[int, int, int] = 0,
    erasing: float = 0.0,
) -> Callable[[Image.Image], Tensor]:
    """Resize, augment and normalise.

    Use it for training images. The steps are, in this order: resize, flip, pad and crop, colour jitter,
    rotation with translation, scaling and shear, perspective, normalise, erase. A step whose arguments leave
    nothing to do is left out. Random numbers come from torch's global generator, as in torchvision;
    :class:`ReidDataset` sets it for each item, so that items depend on (seed, epoch, index) alone.

    Args:
        image_size: (height, width) in pixels, or one number for a square, >= 1. The picture is resized to
            exactly this (bicubic with antialiasing), whatever its aspect.
        mean: What is subtracted from red, green and blue in [0, 1]; CLIP's by default.
        std: What the difference is divided by, > 0; CLIP's by default.
        horizontal_flip: Probability of mirroring left and right. Set 0 where the side is the identity (left
            and right hands, written characters) or a caption names it.
        pad: Pixels of ``fill`` added on each side before a random crop back to ``image_size``; 10 in
            CLIP-ReID.
        color_jitter: Brightness, contrast and saturation are each multiplied by a random factor between
            1 - ``color_jitter`` and 1 + ``color_jitter``, in [0, 1]. Hue stays, as captions name colours.
        rotation: Largest angle of a random rotation in degrees, either way, in [0, 180].
        translate: Largest random shift along (x, y) as a fraction of the width and height, in [0, 1].
        scale: Range (lowest, highest) of a random magnification, > 0; below 1 shrinks.
        shear: Largest angle of a random horizontal shear in degrees, either way, in [0, 89].
        perspective: How far each corner may move inwards, as a fraction of half the side, in [0, 1].
        fill: Colour in 0..255 of what padding and distortions uncover: one grey or (red, green, blue). 255
            suits drawings on white paper.
        erasing: Probability of putting noise in a random rectangle of 2 % to 33 % of the area, after
            normalisation.

    Returns:
        A callable that takes an RGB picture and returns a float32 tensor (3, height, width). It is a
        torchvision ``Compose``: picklable, and its ``repr`` lists the steps.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> augment = train_transform((8, 4), horizontal_flip=0.0, pad=1, rotation=10.0, fill=255)
        >>> [type(step).__name__ for step in augment.transforms]
        ['Resize', 'Pad', 'RandomCrop', 'RandomAffine', 'PILToTensor', 'Lambda', 'ToDtype', 'Normalize']
        >>> augment(Image.new("RGB", (5, 7), "white")).shape
        torch.Size([3, 8, 4])
    """
    owner = "train_transform"
    size = _size(owner, image_size)
    _check_statistics(owner, mean, std)
    for name, share in (
        ("horizontal_flip", horizontal_flip),
        ("color_jitter", color_jitter),
        ("erasing", erasing),
    ):
        _check_between(owner, name, share, 1)
    for axis, shift in zip("xy", translate, strict=True):
        _check_between(owner, f"translate along {axis}", shift, 1)
    _check_between(owner, "rotation", rotation, 180, " degrees")
    _check_between(owner, "shear", shear, 89, " degrees")
    _check_between(owner, "perspective", perspective, 1)
    check_at_least(owner, "pad", pad, 0, " pixels")
    for name, magnification in zip(("lowest scale", "highest scale"), scale, strict=True):
        check_positive(owner, name, magnification)
    if scale[0] > scale[1]:
        raise fail(owner, "scale as (lowest, highest)", scale)
    for level in (fill,) if isinstance(fill, int) else fill:
        _check_between(owner, "fill", level, 255)

    steps = [_resize(size)]
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(horizontal_flip))
    if pad:
        steps += [v2.Pad(pad, fill=fill), v2.RandomCrop(size)]
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    if rotation or any(translate) or tuple(scale) != (1.0, 1.0) or shear:
        bilinear = v2.InterpolationMode.BILINEAR
        affine = v2.RandomAffine(
            degrees=rotation,
            translate=translate,
            scale=scale,
            shear=shear or None,
            interpolation=bilinear,
            fill=fill,
        )
        steps.append(affine)
    if perspective:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomPerspective(perspective, p=1.0, interpolation=bilinear, fill=fill))
    steps += _to_normalised(mean, std)
    if erasing:
        steps.append(v2.RandomErasing(erasing, value="random", inplace=True))
    transform: Callable[[Image.Image], Tensor] = v2.Compose(steps)
    return transform


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
    _check_between(owner, "rotation", rotation, 180, " degrees")
    _check_between(owner, "shear", shear, 89, " degrees")
    _check_between(owner, "perspective", perspective, 1)
    for level in (fill,) if isinstance(fill, int) else fill:
        _check_between(owner, "fill", level, 255)
    bilinear = v2.InterpolationMode.BILINEAR
    steps: list[v2.Transform] = []
    if orientations > 1:
        steps.append(v2.RandomChoice([v2.RandomRotation((angle, angle)) for angle in (0, 90, 180, 270)]))
    if orientations == 8:
        steps.append(v2.RandomHorizontalFlip())
    if rotation or shear:
        angles = [-shear, shear, -shear, shear] if shear else None
        steps.append(v2.RandomAffine(degrees=rotation, shear=angles, interpolation=bilinear, fill=fill))
    if perspective:
        steps.append(v2.RandomPerspective(perspective, p=1.0, interpolation=bilinear, fill=fill))
    warp: Callable[[Image.Image], Image.Image] = v2.Compose(steps) if steps else v2.Identity()
    return warp


def _size(owner: str, image_size: int | tuple[int, int]) -> list[int]:
    sides = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    if len(sides) != 2 or not all(_is_size(side) for side in sides):
        raise fail(owner, "image_size as one number of pixels or (height, width), each >= 1", repr(image_size))
    return sides


def _is_size(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side >= 1


def _check_statistics(owner: str, mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(math.isfinite(value) for value in values):
            raise fail(owner, f"{name} as three finite numbers, for red, green and blue", repr(values))
    for value in std:
        check_positive(owner, "std", value)
    if max(map(abs, mean)) > 1 or max(std) > 1:
        remedy = "Divide statistics of 0..255 by 255."
        raise fail(owner, "mean and std of channels in [0, 1]", f"{tuple(mean)} and {tuple(std)}", remedy)


def _check_between(owner: str, name: str, value: float, highest: int, unit: str = "") -> None:
    if not 0 <= value <= highest:  # False for NaN as well
        raise fail(owner, f"{name} in [0, {highest}]{unit}", value)


def _resize(size: list[int]) -> v2.Transform:
    return v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)


def _to_normalised(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    # PILToTensor and not ToImage: the result is a plain tensor, without torchvision's subclass. Its bytes are put in
    # order here, where they are four times fewer than after ToDtype: half the time of these steps and of collation.
    return [
        v2.PILToTensor(),
        v2.Lambda(Tensor.contiguous),
        v2.ToDtype(float32, scale=True),
        v2.Normalize(list(mean), list(std), inplace=True),  # ToDtype has made a tensor of its own
    ]
