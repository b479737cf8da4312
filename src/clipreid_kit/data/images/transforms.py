"""Transforms from a PIL image to the input of an image tower, with and without augmentation.

torchvision takes seconds to import, so functions import it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, check_positive, fail
from clipreid_kit.data.images._image_checks import (
    check_between,
    check_fill,
    check_image_size,
    check_statistics,
)
from clipreid_kit.data.images.flip_and_shift import RandomFlip, RandomShift
from clipreid_kit.data.images.image_presets import IMAGE_PRESETS
from clipreid_kit.data.images.image_spec import CLIP_MEAN, CLIP_STD, ImageSpec
from clipreid_kit.data.images.resize import (
    CropToSize,
    PadToSize,
    RandomFractionCrop,
    StretchToSize,
    resize_step,
)
from clipreid_kit.data.images.stripe_masking import StripeMasking
from clipreid_kit.data.images.to_normalized_tensor import ToNormalizedTensor

Transform = Callable[[Image.Image], Tensor]
Steps = list[Callable[..., object]]

_DETERMINISTIC_STEPS = (StretchToSize, PadToSize, CropToSize, ToNormalizedTensor)


def eval_transform(
    image_size: int | tuple[int, int] | ImageSpec,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Transform:
    """Return a deterministic transform: resize and normalise.

    Use it for queries, galleries and anything else that is not trained on, with the same
    :class:`ImageSpec` (or the same ``image_size``, ``mean`` and ``std``) as in training.

    Args:
        image_size: (height, width) in pixels, or one number for a square, >= 1: images are resized
            to exactly this size (bicubic with antialiasing), whatever their aspect ratio. Or an
            :class:`ImageSpec`, which also holds the way of resizing and the statistics.
        mean: Subtracted from red, green and blue in [0, 1]. Defaults to CLIP's, or the spec's.
        std: Divides the difference, > 0. Defaults to CLIP's, or the spec's.

    Returns:
        A callable from an RGB image to a float32 tensor (3, height, width). It is a torchvision
        ``Compose``: it can be pickled, and its ``repr`` lists the steps.

    Raises:
        ValueError: If an argument is out of range, or ``mean`` or ``std`` is given with a spec.

    Example:
        >>> white = Image.new("RGB", (5, 7), "white")
        >>> image = eval_transform((4, 2), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(white)
        >>> image.shape, image.unique()
        (torch.Size([3, 4, 2]), tensor([1.]))
    """
    from torchvision.transforms import v2

    spec = _spec_of("eval_transform", image_size, mean, std)

    steps: Steps = [
        resize_step(spec, spec.interpolation),
        ToNormalizedTensor(spec.mean, spec.std),
    ]
    transform: Transform = v2.Compose(steps)
    return transform


def train_transform(
    image_size: int | tuple[int, int] | ImageSpec,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop: float = 1.0,
    horizontal_flip: float = 0.5,
    pad: int = 0,
    color_jitter: float = 0.0,
    rotation: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
    perspective: float = 0.0,
    augmix: float = 0.0,
    fill: int | tuple[int, int, int] | None = None,
    erasing: float = 0.0,
    stripes: StripeMasking | None = None,
) -> Transform:
    """Return a random transform for training: resize, augment and normalise.

    Use it for training images. The steps are, in this order: crop, resize, flip, pad and crop,
    colour jitter, rotation with translation, scaling and shear, perspective, AugMix, normalise,
    erase, mask stripes. A step whose arguments have no effect is left out. Random numbers come from
    torch's global generator, as in torchvision; :class:`ReidDataset` replaces it by one for each
    item, so that items depend on (seed, epoch, index) alone.

    Args:
        image_size: (height, width) in pixels, or one number for a square, >= 1: images are resized
            to exactly this size (bicubic with antialiasing), whatever their aspect ratio. Or an
            :class:`ImageSpec`, which also holds the way of resizing and the statistics.
        mean: Subtracted from red, green and blue in [0, 1]. Defaults to CLIP's, or the spec's.
        std: Divides the difference, > 0. Defaults to CLIP's, or the spec's.
        crop: Fraction of the width and of the height that a random crop keeps before resizing, in
            (0, 1].
        horizontal_flip: Probability of mirroring left and right, in [0, 1]. Set 0 if the side is
            the identity (left and right hands, written characters) or captions name it.
        pad: Pixels of ``fill`` added on each side before a random crop back to ``image_size``, >=
            0; 10 in CLIP-ReID.
        color_jitter: Brightness, contrast and saturation are each multiplied by a random factor
            between 1 - ``color_jitter`` and 1 + ``color_jitter``, in [0, 1]. Hue never changes,
            because captions name colours.
        rotation: Largest angle of a random rotation in degrees, in both directions, in [0, 180].
        translate: Largest random shift along (x, y) as a fraction of the width and height, each in
            [0, 1].
        scale: Range (lowest, highest) of a random magnification, > 0; below 1 shrinks.
        shear: Largest angle of a random horizontal shear in degrees, in both directions, in [0,
            89].
        perspective: How far each corner may move inwards, as a fraction of half the side, in [0,
            1].
        augmix: Probability of AugMix, in [0, 1]: a random mixture of the image with chains of
            distortions, also of colour (severity 3, up to three chains of up to three steps).
        fill: Colour in 0..255 of padding and of the area that distortions uncover: one grey value
            or (red, green, blue). 255 suits drawings on white paper. Defaults to the spec's, or
            black.
        erasing: Probability of filling a random rectangle of 2 % to 33 % of the area with noise,
            after normalisation, in [0, 1].
        stripes: How horizontal stripes are masked, after normalisation. ``None`` to mask none.

    Returns:
        A callable from an RGB image to a float32 tensor (3, height, width). It is a torchvision
        ``Compose``: it can be pickled, and its ``repr`` lists the steps.

    Raises:
        ValueError: If an argument is out of range, or ``mean`` or ``std`` is given with a spec.

    Example:
        >>> augment = train_transform((8, 4), horizontal_flip=0.0, pad=1, rotation=10.0, fill=255)
        >>> [type(step).__name__ for step in augment.transforms]
        ['StretchToSize', 'RandomShift', 'RandomAffine', 'ToNormalizedTensor']
        >>> augment(Image.new("RGB", (5, 7), "white")).shape
        torch.Size([3, 8, 4])
    """
    spec = _spec_of("train_transform", image_size, mean, std)
    if fill is not None:
        check_fill("train_transform", fill)
        spec = replace(spec, fill=fill)

    fractions = {
        "crop": crop,
        "horizontal_flip": horizontal_flip,
        "color_jitter": color_jitter,
        "perspective": perspective,
        "augmix": augmix,
        "erasing": erasing,
    }
    for name, fraction in fractions.items():
        check_between("train_transform", name, fraction, 1)

    check_positive("train_transform", "crop", crop)
    check_integer("train_transform", "pad", pad, 0)
    _check_affine(rotation, translate, scale, shear)

    from torchvision.transforms import v2

    steps = _crop_and_flip_steps(spec, crop, horizontal_flip, pad)
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))

    steps += _affine_steps(rotation, translate, scale, shear, spec.fill)
    if perspective:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(
            v2.RandomPerspective(perspective, p=1.0, interpolation=bilinear, fill=spec.fill)
        )
    if augmix:
        steps.append(v2.RandomApply([v2.AugMix(fill=spec.fill)], p=augmix))

    steps.append(ToNormalizedTensor(spec.mean, spec.std))

    # After normalisation, so that the noise has the spread of the data.
    if erasing:
        steps.append(v2.RandomErasing(erasing, value="random", inplace=True))
    if stripes is not None and stripes.probability:
        steps.append(stripes)

    transform: Transform = v2.Compose(steps)
    return transform


def _crop_and_flip_steps(spec: ImageSpec, crop: float, horizontal_flip: float, pad: int) -> Steps:
    """Crop and resize an image, mirror it, and shift it by padding and cropping."""
    steps: Steps = []
    if crop < 1:
        steps.append(RandomFractionCrop(crop))
    steps.append(resize_step(spec, spec.train_interpolation or spec.interpolation))

    if horizontal_flip:
        steps.append(RandomFlip(horizontal_flip))
    if pad:
        steps.append(RandomShift(pad, spec.fill))
    return steps


class PresetTransforms(NamedTuple):
    """A preset's image specification and its two transforms, as :func:`preset_transforms` returns.

    Attributes:
        spec: The specification, to save with the checkpoint.
        train: Transform of training images.
        evaluate: Transform of queries and galleries.
    """

    spec: ImageSpec
    train: Transform
    evaluate: Transform


def preset_transforms(name: str) -> PresetTransforms:
    """Return both transforms of a published pipeline.

    Use one to reproduce published numbers, or as a starting point:

    - ``openai``: CLIP's preprocessing, without augmentation.
    - ``clip-reid``, ``clip-reid-vehicle`` (square) and ``clip-reid-cnn`` (ImageNet's statistics):
      flip, 10 pixels of padding with a random crop, random erasing; bicubic resizing in training
      and bilinear in the test.
    - ``hands`` (224 x 224) and ``hands-portrait`` (224 x 128): the same resizing and normalisation
      in training and test, never mirrored.

    Args:
        name: Name of a preset.

    Returns:
        The specification, the training transform and the evaluation transform.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> spec, train, evaluate = preset_transforms("clip-reid")
        >>> spec.image_size, [type(step).__name__ for step in train.transforms[1:]]
        ((256, 128), ['RandomFlip', 'RandomShift', 'ToNormalizedTensor', 'RandomErasing'])
    """
    check_choice("preset_transforms", "name", name, tuple(IMAGE_PRESETS))
    spec = IMAGE_PRESETS[name]

    if name.startswith("clip-reid"):
        train = train_transform(spec, horizontal_flip=0.5, pad=10, erasing=0.5)
    else:
        train = train_transform(spec, horizontal_flip=0.0)

    return PresetTransforms(spec, train, eval_transform(spec))


def is_deterministic(transform: object) -> bool:
    """Return whether a transform is known to need no random numbers."""
    from torchvision.transforms import v2

    if not isinstance(transform, v2.Compose):
        return False
    return all(isinstance(step, _DETERMINISTIC_STEPS) for step in transform.transforms)


def _spec_of(
    owner: str,
    image_size: int | tuple[int, int] | ImageSpec,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> ImageSpec:
    """Return the spec of the arguments that both transforms take."""
    if isinstance(image_size, ImageSpec):
        if mean is not None or std is not None:
            raise ValueError(
                f"{owner}: mean and std are part of an ImageSpec. Change them there, with "
                "dataclasses.replace."
            )
        return image_size

    height, width = check_image_size(owner, image_size)
    means = CLIP_MEAN if mean is None else mean
    stds = CLIP_STD if std is None else std
    check_statistics(owner, means, stds)

    return ImageSpec(
        image_size=(height, width),
        mean=(means[0], means[1], means[2]),
        std=(stds[0], stds[1], stds[2]),
    )


def _check_affine(
    rotation: float, translate: tuple[float, float], scale: tuple[float, float], shear: float
) -> None:
    """Check the arguments of the affine step."""
    owner = "train_transform"
    check_between(owner, "rotation", rotation, 180, " degrees")
    check_between(owner, "shear", shear, 89, " degrees")

    if not _is_pair(translate):
        raise fail(owner, "translate as (x, y)", repr(translate))
    for axis, fraction in zip("xy", translate, strict=True):
        check_between(owner, f"translate along {axis}", fraction, 1)

    if not _is_pair(scale):
        raise fail(owner, "scale as (lowest, highest)", repr(scale))
    lowest, highest = scale
    check_positive(owner, "lowest scale", lowest)
    check_positive(owner, "highest scale", highest)
    if lowest > highest:
        raise fail(owner, "scale as (lowest, highest)", scale)


def _is_pair(value: object) -> bool:
    """Return whether a value is a tuple or list of two."""
    return isinstance(value, tuple | list) and len(value) == 2


def _affine_steps(
    rotation: float,
    translate: tuple[float, float],
    scale: tuple[float, float],
    shear: float,
    fill: int | tuple[int, int, int],
) -> Steps:
    """Return the affine step; no step if the arguments have no effect."""
    if not (rotation or any(translate) or tuple(scale) != (1.0, 1.0) or shear):
        return []

    from torchvision.transforms import v2

    affine = v2.RandomAffine(
        degrees=rotation,
        translate=translate,
        scale=scale,
        shear=shear or None,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=fill,
    )
    return [affine]
