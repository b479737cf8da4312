"""The section `augment`: random changes of training images."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from examples.settings.section import Fraction, Needs, OpenFraction, PositiveFraction, Section

Scale = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)]
_STRIPES = Needs("augment.stripes")


class Fill(Section):
    """Random changes of training images, and the grey of the area that they uncover."""

    fill: Annotated[
        int,
        Field(ge=0, le=255),
        Needs(
            "stage: zero_shot",  # which must show images as the weights were trained
            "augment.pad",
            "augment.rotation",
            "augment.translate",
            "augment.scale",
            "augment.shear",
            "augment.perspective",
            "augment.augmix",
            "augment.identity_warp",
            "evaluate.rotations",
            "model.fit: pad",
        ),
    ] = 0
    """Grey level of the area that a shift, turn or warp uncovers."""


class Augment(Fill):
    """Random changes of training images; see `clipreid_kit.data.train_transform`."""

    crop: PositiveFraction = 1.0
    """Fraction of width and height that a random crop keeps."""
    horizontal_flip: Fraction = 0.0
    """Probability of mirroring."""
    pad: NonNegativeInt = 0
    """Pixels on each side before a random crop."""
    color_jitter: Fraction = 0.0
    """Largest change of brightness, contrast and saturation."""
    rotation: NonNegativeFloat = 0.0
    """Largest rotation in degrees, either way."""
    translate: Fraction = 0.0
    """Largest shift along both axes, as a fraction of the size."""
    scale: Scale = (1.0, 1.0)
    """Lowest and highest magnification."""
    shear: NonNegativeFloat = 0.0
    """Largest shear in degrees, either way."""
    perspective: Fraction = 0.0
    """How far each corner may move inwards."""
    augmix: Fraction = 0.0
    """Probability of AugMix."""
    erasing: Fraction = 0.0
    """Probability of noise in a random rectangle."""
    stripes: Fraction = 0.0
    """Probability of masking horizontal stripes."""
    stripe_share: Annotated[OpenFraction, _STRIPES] = 0.3
    """Share of the height that the stripes cover together."""
    num_stripes: Annotated[PositiveInt, _STRIPES] = 1
    """Number of stripes."""
    stripe_fill: Annotated[Literal["mean", "noise", "image"], _STRIPES] = "mean"
    """Content of the stripes: the mean colour, noise, or the rows of another training image."""
    identity_orientations: Literal[1, 4, 8] = 1
    """Turn (4), or also mirror (8), all images of an identity alike, drawn anew each epoch."""
    views: Annotated[int, Field(ge=1, le=8), Needs("stage: classifier, image_encoder, joint")] = 1
    """Differently augmented views of each image in a batch, each with the image's caption."""
    identity_warp: Fraction = 0.0
    """Strength of a warp that all images of an identity undergo alike."""
