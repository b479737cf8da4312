"""What an image tower is to be shown, as one value that is kept with its weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Literal

from clipreid_kit._checks import check_choice, check_positive, fail

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green and blue in [0, 1] that the OpenAI and LAION models were trained with."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of red, green and blue in [0, 1] that the OpenAI and LAION models were trained with."""

Interpolation = Literal["bicubic", "bilinear"]
Fit = Literal["stretch", "pad", "crop"]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """How a picture becomes what an image tower takes, without anything random.

    Use one for training, evaluation and retrieval alike: give it to :func:`train_transform` and
    :func:`eval_transform`, keep :meth:`as_dict` with the checkpoint, and compare with :meth:`check_same` before a test.
    A model that is tested with other pixels than it was trained with loses accuracy without a message.

    Attributes:
        image_size: (height, width) in pixels, each >= 1.
        mean: What is subtracted from red, green and blue in [0, 1].
        std: What the difference is divided by, > 0.
        interpolation: Of resizing, always with antialiasing.
        fit: ``"stretch"`` resizes to exactly ``image_size``; ``"pad"`` keeps the aspect and fills the rest;
            ``"crop"`` keeps the aspect and cuts the centre, as CLIP's own preprocessing does.
        fill: Grey or (red, green, blue) in 0..255 of what padding adds.
        train_interpolation: Of resizing in training, where it differs (CLIP-ReID trains with bicubic and tests with
            bilinear); ``None`` for the same.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> spec = ImageSpec(image_size=(256, 128), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> ImageSpec.from_dict(spec.as_dict()) == spec
        True
        >>> spec.check_same(ImageSpec(image_size=(256, 128), std=(0.5, 0.5, 0.5)))
        Traceback (most recent call last):
        ...
        ValueError: ImageSpec.check_same: expected the pictures that the model was trained with, got other mean (mean
            ...
    """

    image_size: tuple[int, int]
    mean: Colour = CLIP_MEAN
    std: Colour = CLIP_STD
    interpolation: Interpolation = "bicubic"
    fit: Fit = "stretch"
    fill: int | tuple[int, int, int] = 0
    train_interpolation: Interpolation | None = None

    def __post_init__(self) -> None:
        owner = "ImageSpec"
        check_image_size(owner, self.image_size)
        check_statistics(owner, self.mean, self.std)
        check_choice(owner, "interpolation", self.interpolation, ("bicubic", "bilinear"))
        if self.train_interpolation is not None:
            check_choice(
                owner, "train_interpolation", self.train_interpolation, ("bicubic", "bilinear")
            )
        check_choice(owner, "fit", self.fit, ("stretch", "pad", "crop"))
        check_fill(owner, self.fill)

    def as_dict(self) -> dict[str, object]:
        """Give the values as JSON takes them, for a checkpoint's card.

        Returns:
            A value for each attribute, with lists for tuples.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "ImageSpec":
        """Make a spec of what :meth:`as_dict` gave.

        Args:
            values: A value for each attribute; those that may be left out when a spec is made may be left out here.

        Returns:
            The spec.

        Raises:
            ValueError: If a name is unknown, ``image_size`` is missing, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown or "image_size" not in values:
            got = f"{', '.join(map(repr, unknown))}" if unknown else "no image_size"
            raise fail("ImageSpec.from_dict", f"names among {', '.join(known)}", got)
        given: dict[str, object] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in values.items()
        }
        return cls(**given)  # type: ignore[arg-type]

    def check_same(self, tested: "ImageSpec") -> None:
        """Require that a test shows pictures as training did.

        Args:
            tested: The spec of the test; this one is that of the training.

        Raises:
            ValueError: If they differ: in what, and both values.
        """
        names = [f.name for f in fields(self) if f.name != "train_interpolation"]
        other = [name for name in names if getattr(self, name) != getattr(tested, name)]
        if other:
            values = "; ".join(
                f"{name} {getattr(self, name)} and {getattr(tested, name)}" for name in other
            )
            remedy = "Make the test's transform from the spec in the checkpoint."
            expected = "the pictures that the model was trained with"
            raise fail(
                "ImageSpec.check_same", expected, f"other {', '.join(other)} ({values})", remedy
            )


def check_image_size(owner: str, image_size: object) -> tuple[int, int]:
    """Require one number of pixels or (height, width), and give the latter."""
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    if (
        not isinstance(sides, tuple | list)
        or len(sides) != 2
        or not all(_is_size(side) for side in sides)
    ):
        raise fail(
            owner,
            "image_size as one number of pixels or (height, width), each >= 1",
            repr(image_size),
        )
    return sides[0], sides[1]


def check_statistics(owner: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Require a mean and a standard deviation for three channels in [0, 1]."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(math.isfinite(v) for v in values):
            raise fail(
                owner, f"{name} as three finite numbers, for red, green and blue", repr(values)
            )
    for value in std:
        check_positive(owner, "std", value)
    if max(map(abs, mean)) > 1 or max(std) > 1:
        remedy = "Divide statistics of 0..255 by 255."
        raise fail(
            owner, "mean and std of channels in [0, 1]", f"{tuple(mean)} and {tuple(std)}", remedy
        )


def check_fill(owner: str, fill: int | tuple[int, int, int]) -> None:
    """Require a grey or a colour in 0..255."""
    for level in (fill,) if isinstance(fill, int) else fill:
        check_between(owner, "fill", level, 255)


def check_between(owner: str, name: str, value: float, highest: int, unit: str = "") -> None:
    """Require a number from 0 to ``highest``."""
    if not 0 <= value <= highest:  # False for NaN as well
        raise fail(owner, f"{name} in [0, {highest}]{unit}", value)


def _is_size(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side >= 1


_HALF = (0.5, 0.5, 0.5)
IMAGE_PRESETS: Mapping[str, ImageSpec] = MappingProxyType(
    {
        "openai": ImageSpec(image_size=(224, 224), fit="crop"),
        "clip-reid": ImageSpec(
            image_size=(256, 128),
            mean=_HALF,
            std=_HALF,
            interpolation="bilinear",
            train_interpolation="bicubic",
        ),
        "clip-reid-vehicle": ImageSpec(
            image_size=(256, 256),
            mean=_HALF,
            std=_HALF,
            interpolation="bilinear",
            train_interpolation="bicubic",
        ),
        "clip-reid-cnn": ImageSpec(
            image_size=(256, 128),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            interpolation="bilinear",
            train_interpolation="bicubic",
        ),
        "hands": ImageSpec(image_size=(224, 224), interpolation="bilinear"),
        "hands-portrait": ImageSpec(image_size=(224, 128), interpolation="bilinear"),
    }
)
"""Specs by name, for parity with published code: CLIP's own, CLIP-ReID's, and those of a hand pipeline."""
