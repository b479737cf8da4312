"""From a PIL picture to the tensor that an image tower takes, with or without augmentation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from clipreid_kit._checks import check_at_least, check_choice, check_positive, fail
from clipreid_kit.data.images.image_spec import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGE_PRESETS,
    ImageSpec,
    check_between,
    check_fill,
    check_image_size,
    check_statistics,
)
from clipreid_kit.data.images.normalize import ToNormalised
from clipreid_kit.data.images.resize import CropToSize, PadToSize, RandomShare, Stretch, fitting

Transform = Callable[[Image.Image], Tensor]


def eval_transform(
    image_size: int | tuple[int, int] | ImageSpec,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Transform:
    """Resize and normalise, with nothing random.

    Use it for queries, galleries and anything that is only looked at, with the same :class:`ImageSpec` (or the same
    ``image_size``, ``mean`` and ``std``) as in training.

    Args:
        image_size: (height, width) in pixels, or one number for a square, >= 1: the picture is resized to exactly this
            (bicubic with antialiasing), whatever its aspect. Or an :class:`ImageSpec`, which says all of it.
        mean: What is subtracted from red, green and blue in [0, 1]; ``None`` for CLIP's, or the spec's.
        std: What the difference is divided by, > 0; ``None`` for CLIP's, or the spec's.

    Returns:
        A callable that takes an RGB picture and returns a float32 tensor (3, height, width). It is a
        torchvision ``Compose``: picklable, and its ``repr`` lists the steps.

    Raises:
        ValueError: If an argument is out of range, or ``mean`` or ``std`` is given beside a spec.

    Example:
        >>> white = Image.new("RGB", (5, 7), "white")
        >>> image = eval_transform((4, 2), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(white)
        >>> image.shape, image.unique()
        (torch.Size([3, 4, 2]), tensor([1.]))
    """
    spec = _spec("eval_transform", image_size, mean, std)
    transform: Transform = v2.Compose(
        [*fitting(spec, spec.interpolation), ToNormalised(spec.mean, spec.std)]
    )
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
) -> Transform:
    """Resize, augment and normalise.

    Use it for training images. The steps are, in this order: crop, resize, flip, pad and crop, colour jitter,
    rotation with translation, scaling and shear, perspective, AugMix, normalise, erase. A step whose arguments leave
    nothing to do is left out. Random numbers come from torch's global generator, as in torchvision;
    :class:`ReidDataset` sets it for each item, so that items depend on (seed, epoch, index) alone.

    Args:
        image_size: (height, width) in pixels, or one number for a square, >= 1: the picture is resized to exactly this
            (bicubic with antialiasing), whatever its aspect. Or an :class:`ImageSpec`, which says all of it.
        mean: What is subtracted from red, green and blue in [0, 1]; ``None`` for CLIP's, or the spec's.
        std: What the difference is divided by, > 0; ``None`` for CLIP's, or the spec's.
        crop: Share of the width and of the height that a random crop keeps before resizing, in (0, 1].
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
        augmix: Probability of AugMix: a random mixture of the picture with chains of distortions, colour among them
            (severity 3, up to three chains of up to three steps).
        fill: Colour in 0..255 of what padding and distortions uncover: one grey or (red, green, blue). 255
            suits drawings on white paper. ``None`` for the spec's, black if there is none.
        erasing: Probability of putting noise in a random rectangle of 2 % to 33 % of the area, after
            normalisation.

    Returns:
        A callable that takes an RGB picture and returns a float32 tensor (3, height, width). It is a
        torchvision ``Compose``: picklable, and its ``repr`` lists the steps.

    Raises:
        ValueError: If an argument is out of range, or ``mean`` or ``std`` is given beside a spec.

    Example:
        >>> augment = train_transform((8, 4), horizontal_flip=0.0, pad=1, rotation=10.0, fill=255)
        >>> [type(step).__name__ for step in augment.transforms]
        ['Stretch', 'Pad', 'RandomCrop', 'RandomAffine', 'ToNormalised']
        >>> augment(Image.new("RGB", (5, 7), "white")).shape
        torch.Size([3, 8, 4])
    """
    owner = "train_transform"
    spec = _spec(owner, image_size, mean, std)
    if fill is not None:
        check_fill(owner, fill)
        spec = replace(spec, fill=fill)
    check_positive(owner, "crop", crop)
    for name, share in (
        ("crop", crop),
        ("horizontal_flip", horizontal_flip),
        ("color_jitter", color_jitter),
        ("augmix", augmix),
        ("erasing", erasing),
        ("perspective", perspective),
        ("translate along x", translate[0]),
        ("translate along y", translate[1]),
    ):
        check_between(owner, name, share, 1)
    check_between(owner, "rotation", rotation, 180, " degrees")
    check_between(owner, "shear", shear, 89, " degrees")
    check_at_least(owner, "pad", pad, 0, " pixels")
    for name, magnification in zip(("lowest scale", "highest scale"), scale, strict=True):
        check_positive(owner, name, magnification)
    if scale[0] > scale[1]:
        raise fail(owner, "scale as (lowest, highest)", scale)

    bilinear, paper = v2.InterpolationMode.BILINEAR, spec.fill
    steps: list[Callable[..., object]] = [RandomShare(crop)] if crop < 1 else []
    steps += fitting(spec, spec.train_interpolation or spec.interpolation)
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(horizontal_flip))
    if pad:
        steps += [v2.Pad(pad, fill=paper), v2.RandomCrop(list(spec.image_size))]
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    if rotation or any(translate) or tuple(scale) != (1.0, 1.0) or shear:
        affine = v2.RandomAffine(
            degrees=rotation,
            translate=translate,
            scale=scale,
            shear=shear or None,
            interpolation=bilinear,
            fill=paper,
        )
        steps.append(affine)
    if perspective:
        steps.append(v2.RandomPerspective(perspective, p=1.0, interpolation=bilinear, fill=paper))
    if augmix:
        steps.append(v2.RandomApply([v2.AugMix(fill=paper)], p=augmix))
    steps.append(ToNormalised(spec.mean, spec.std))
    if erasing:
        steps.append(v2.RandomErasing(erasing, value="random", inplace=True))
    transform: Transform = v2.Compose(steps)
    return transform


class PresetTransforms(NamedTuple):
    """What :func:`preset_transforms` gives.

    Attributes:
        spec: What to keep with the checkpoint.
        train: For training images.
        evaluate: For queries and galleries.
    """

    spec: ImageSpec
    train: Transform
    evaluate: Transform


def preset_transforms(name: str) -> PresetTransforms:
    """Give both transforms of a published pipeline.

    Use one to reproduce its numbers, or as a beginning. ``openai``: CLIP's preprocessing, nothing random.
    ``clip-reid``, ``clip-reid-vehicle`` (square) and ``clip-reid-cnn`` (ImageNet's statistics): flip, 10 pixels of
    padding with a random crop, random erasing; trained with bicubic and tested with bilinear resizing, and normalised
    with other statistics than CLIP's. ``hands`` (224 x 224) and ``hands-portrait`` (224 x 128): resized and normalised
    alike in training and test, never mirrored.

    Args:
        name: One of these.

    Returns:
        The spec, the training transform and the test transform.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> spec, train, evaluate = preset_transforms("clip-reid")
        >>> spec.image_size, [type(step).__name__ for step in train.transforms[1:4]]
        ((256, 128), ['RandomHorizontalFlip', 'Pad', 'RandomCrop'])
    """
    check_choice("preset_transforms", "name", name, tuple(IMAGE_PRESETS))
    spec = IMAGE_PRESETS[name]
    if name.startswith("clip-reid"):
        train = train_transform(spec, horizontal_flip=0.5, pad=10, erasing=0.5)
    else:
        train = train_transform(spec, horizontal_flip=0.0)
    return PresetTransforms(spec, train, eval_transform(spec))


def draws_nothing(transform: object) -> bool:
    """Whether a transform is known to need no random numbers, as what :func:`eval_transform` gives."""
    return isinstance(transform, v2.Compose) and all(
        isinstance(step, _STILL) for step in transform.transforms
    )


_STILL = (Stretch, PadToSize, CropToSize, ToNormalised)


def _spec(
    owner: str,
    image_size: int | tuple[int, int] | ImageSpec,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> ImageSpec:
    if isinstance(image_size, ImageSpec):
        if mean is not None or std is not None:
            remedy = "Put them into the spec, with dataclasses.replace."
            raise fail(
                owner,
                "mean and std to be left out beside an ImageSpec",
                f"{mean} and {std}",
                remedy,
            )
        return image_size
    size = check_image_size(owner, image_size)
    means, stds = (
        tuple(CLIP_MEAN if mean is None else mean),
        tuple(CLIP_STD if std is None else std),
    )
    check_statistics(owner, means, stds)
    return ImageSpec(
        image_size=size, mean=(means[0], means[1], means[2]), std=(stds[0], stds[1], stds[2])
    )
