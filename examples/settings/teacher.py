"""The section `teacher`: a model whose embeddings the trained one should reproduce."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from examples.settings.section import FractionBelowOne, Needs, Section, default_tag


class AnyTeacher(Section):
    """A model whose embeddings of the same images the trained one should reproduce."""


class NoTeacher(AnyTeacher):
    """Without a teacher."""

    source: Literal["none"] = "none"
    """No teacher, an earlier run, or the moving average of the trained model itself."""


class Distilling(AnyTeacher):
    """How the model follows its teacher."""

    kind: Literal["relational", "feature", "logit"] = "relational"
    """Similarities among the images of a batch, each embedding (of the same width), or the logits
    of a linear identity classifier (of the same identities)."""
    weight: PositiveFloat = 1.0
    """Weight of the term `distillation` in the loss."""
    temperature: Annotated[PositiveFloat, Needs("teacher.kind: relational")] = 0.1
    """Temperature of the similarities, in units of cosine similarity."""
    logit_temperature: Annotated[PositiveFloat, Needs("teacher.kind: logit")] = 4.0
    """Temperature of the logits, in units of the logits."""


class RunTeacher(Distilling):
    """An earlier run."""

    source: Literal["run"]
    path: str
    """A run or checkpoint, with images of the same size and normalisation."""


class AverageTeacher(Distilling):
    """The moving average of the model itself."""

    source: Literal["average"]
    decay: FractionBelowOne = 0.99
    """Share of the average that each step keeps."""


Teacher = Annotated[
    NoTeacher | RunTeacher | AverageTeacher,
    Field(discriminator="source"),
    default_tag("source", "none"),
]
