"""The section `head`: the identity classifier."""

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from examples.settings.section import (
    FractionBelowOne,
    Needs,
    PositiveFraction,
    Section,
    default_tag,
)

_OTHER_THAN_CLIP_REID = Needs("stage: not clip_reid")


class AnyHead(Section):
    """The identity classifier."""

    neck: Annotated[bool, _OTHER_THAN_CLIP_REID] = True
    """Put a BatchNorm before the classifier; `clip_reid` always has its own."""
    reduced_dim: Annotated[PositiveInt | None, _OTHER_THAN_CLIP_REID, Needs("head.neck: true")] = (
        None
    )
    """Width of a linear layer before the neck; null for no such layer."""
    sync_neck: Annotated[bool, Needs("head.neck: true")] = False
    """Take the neck's mean and variance over the batches of all processes."""
    dropout: Annotated[
        FractionBelowOne, Needs("stage: classifier, image_encoder, joint, retrieval")
    ] = 0.0
    """Dropout before the classifier."""


class LinearHead(AnyHead):
    """The identity classifier: linear."""

    kind: Literal["linear"] = "linear"
    """Linear, or with an additive margin."""
    std: NonNegativeFloat = 0.001
    """Standard deviation of the classifier's initial weights."""


class MarginHead(AnyHead):
    """The identity classifier: linear between unit vectors, with a margin."""

    kind: Literal["arcface", "cosface"]
    scale: PositiveFloat = 30.0
    """Factor on the cosines."""
    margin: Annotated[float, Field(ge=0, lt=math.pi)] = 0.5
    """Margin: of arcface in radians, of cosface a cosine."""
    sampled: PositiveFraction = 1.0
    """Share of the identities in a step, those of the batch among them (Partial FC)."""


class CircleHead(AnyHead):
    """The identity classifier: linear between unit vectors, weighted as in the circle loss."""

    kind: Literal["circle"]
    scale: PositiveFloat = 256.0
    """Factor on the weighted cosines."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """How near to 1 the target's cosine should be, and to 0 the others'."""


Head = Annotated[
    LinearHead | MarginHead | CircleHead, Field(discriminator="kind"), default_tag("kind", "linear")
]
