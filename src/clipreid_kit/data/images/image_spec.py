"""Image specification: size, statistics and resizing, kept with the weights of a model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

from clipreid_kit._checks import check_choice
from clipreid_kit.data.images._image_checks import (
    check_fill,
    check_image_size,
    check_statistics,
)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of red, green and blue in [0, 1] that the OpenAI and LAION models were trained with."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of red, green and blue in [0, 1] of the OpenAI and LAION models."""

Interpolation = Literal["bicubic", "bilinear"]
Fit = Literal["stretch", "pad", "crop"]
RGB = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """The deterministic part of preprocessing: how an image becomes the input of an image tower.

    Use one for training, evaluation and retrieval: pass it to :func:`train_transform` and
    :func:`eval_transform`, save :meth:`as_dict` with the checkpoint, and call :meth:`check_same`
    before an evaluation. A model that is evaluated with other preprocessing than it was trained
    with loses accuracy without a message.

    Attributes:
        image_size: (height, width) in pixels, each >= 1.
        mean: Subtracted from red, green and blue in [0, 1].
        std: Divides the difference; > 0.
        interpolation: Filter of resizing, always with antialiasing.
        fit: ``"stretch"`` resizes to exactly ``image_size``; ``"pad"`` keeps the aspect ratio and
            fills the rest; ``"crop"`` keeps the aspect ratio and crops the centre, as CLIP's own
            preprocessing does.
        fill: Grey value or (red, green, blue) in 0..255 of the padding.
        train_interpolation: Filter of resizing in training (CLIP-ReID trains with bicubic and tests
            with bilinear); ``None`` means ``interpolation``.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> spec = ImageSpec(image_size=(256, 128), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> ImageSpec.from_dict(spec.as_dict()) == spec
        True
        >>> spec.check_same(ImageSpec(image_size=(256, 128), std=(0.5, 0.5, 0.5)))
        Traceback (most recent call last):
        ...
        ValueError: ImageSpec.check_same: the model was trained with another mean ((0.5, 0.5, 0.5)
            in training, (0.48145466, 0.4578275, 0.40821073) in the test). Build ...
    """

    image_size: tuple[int, int]
    mean: RGB = CLIP_MEAN
    std: RGB = CLIP_STD
    interpolation: Interpolation = "bicubic"
    fit: Fit = "stretch"
    fill: int | tuple[int, int, int] = 0
    train_interpolation: Interpolation | None = None

    def __post_init__(self) -> None:
        check_image_size("ImageSpec", self.image_size)
        check_statistics("ImageSpec", self.mean, self.std)
        check_choice("ImageSpec", "fit", self.fit, ("stretch", "pad", "crop"))
        check_fill("ImageSpec", self.fill)

        filters = ("bicubic", "bilinear")
        check_choice("ImageSpec", "interpolation", self.interpolation, filters)
        if self.train_interpolation is not None:
            check_choice("ImageSpec", "train_interpolation", self.train_interpolation, filters)

    def as_dict(self) -> dict[str, object]:
        """Return the values in JSON's types, for a checkpoint's card.

        Returns:
            A value for each attribute, with lists for tuples.
        """
        values: dict[str, object] = {}
        for name, value in asdict(self).items():
            values[name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "ImageSpec":
        """Build a spec from the values that :meth:`as_dict` returned.

        Args:
            values: A value for each attribute; attributes with a default may be left out.

        Returns:
            The spec.

        Raises:
            ValueError: If a name is unknown, ``image_size`` is missing, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in sorted(values) if name not in known]
        if unknown:
            raise ValueError(
                f"ImageSpec.from_dict: unknown names {', '.join(map(repr, unknown))}; known are "
                f"{', '.join(known)}."
            )
        if "image_size" not in values:
            raise ValueError("ImageSpec.from_dict: image_size is missing.")

        arguments: dict[str, object] = {}
        for name, value in values.items():
            arguments[name] = tuple(value) if isinstance(value, list) else value
        return cls(**arguments)  # type: ignore[arg-type]

    def check_same(self, tested: "ImageSpec") -> None:
        """Raise ValueError if an evaluation preprocesses images otherwise than training did.

        Args:
            tested: The spec of the evaluation; this one is that of the training.

        Raises:
            ValueError: If they differ, with the names and both values. ``train_interpolation`` is
                not compared.
        """
        differences = []
        for field in fields(self):
            ours = getattr(self, field.name)
            theirs = getattr(tested, field.name)
            if ours != theirs and field.name != "train_interpolation":
                differences.append(f"{field.name} ({ours} in training, {theirs} in the test)")

        if differences:
            raise ValueError(
                "ImageSpec.check_same: the model was trained with another "
                f"{', '.join(differences)}. Build the transform of the test from the spec in the "
                "checkpoint."
            )
