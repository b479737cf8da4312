"""The section `prompt`: learned prompts of CLIP-ReID, and composed ones of PromptSG."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from examples.settings.optim import CosineOptim
from examples.settings.section import Fraction, FractionBelowOne, Needs, Section

_LEARNED = Needs("prompt.epochs > 0")


class Template(Section):
    """Learned prompts (`clip_reid`) and composed ones (`prompt_sg`)."""

    template: list[str] = Field(default=["A photo of a {tokens} person."], min_length=1)
    """Sentences with a place for the learned or composed {tokens}."""


class LearnedPrompt(Template):
    """The learned prompts of CLIP-ReID's first stage, and how that stage is trained."""

    num_tokens: Annotated[NonNegativeInt, _LEARNED] = 4
    """Learned words of each identity."""
    shared_tokens: Annotated[NonNegativeInt, _LEARNED] = 0
    """Learned words that all identities share."""
    camera_tokens: Annotated[NonNegativeInt, _LEARNED] = 0
    """Learned words of each camera."""
    modality_tokens: Annotated[NonNegativeInt, _LEARNED] = 0
    """Learned words of each modality, or view."""
    modality_column: Annotated[
        Literal["modality", "view"], _LEARNED, Needs("prompt.modality_tokens > 0")
    ] = "modality"
    """Which of both has these words."""
    epochs: NonNegativeInt = 120
    """Epochs of the first stage; 0 learns no words, and takes the captions of the images."""
    batch_size: Annotated[PositiveInt, _LEARNED] = 64
    """Batch size of the first stage."""
    lr: Annotated[PositiveFloat, _LEARNED] = 3.5e-4
    """Peak learning rate of the first stage."""
    weight_decay: Annotated[NonNegativeFloat, _LEARNED] = 1e-4
    """Weight decay of the first stage."""
    warmup_epochs: Annotated[NonNegativeFloat, _LEARNED] = 5.0
    """Epochs of linear warm-up."""
    warmup_factor: Annotated[Fraction, _LEARNED, Needs("prompt.warmup_epochs > 0")] = 0.0286
    """Fraction of the rate at which the warm-up begins."""
    min_lr: Annotated[NonNegativeFloat, _LEARNED] = 1e-6
    """Learning rate at the end of the first stage."""
    temperature: Annotated[PositiveFloat, _LEARNED] = 1.0
    """Temperature of the first stage, in units of the similarity."""
    normalize: Annotated[bool, _LEARNED] = False
    """Compare by cosine instead of CLIP-ReID's dot products."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.epochs > 0 and self.warmup_epochs >= self.epochs:
            raise ValueError("`prompt.warmup_epochs` must be below `prompt.epochs`")
        return self

    def optim(self) -> CosineOptim:
        """Optimiser and schedule of the first stage: Adam, and one rate an epoch."""
        return CosineOptim(
            optimizer="adam",
            decay_all=True,
            by_epoch=True,
            clip_norm=None,
            epochs=self.epochs,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_epochs=self.warmup_epochs,
            warmup_factor=self.warmup_factor,
            min_lr=self.min_lr,
        )


_COMPOSED = Needs("prompt.mode: composed")


class ComposedPrompt(Template):
    """The composed prompts of PromptSG, and the attention that they guide."""

    template: list[str] = Field(
        default=["A photo of a {tokens} person."], min_length=1, max_length=1
    )
    """One sentence with a place for the pseudo word, {tokens}."""
    mode: Literal["composed", "simplified"] = "composed"
    """Compose a pseudo word of each image into the sentence, or leave it out."""
    test_mode: Annotated[Literal["composed", "simplified"], _COMPOSED] = "composed"
    """Likewise in the evaluation."""
    inversion: Annotated[Literal["paper", "basic"], _COMPOSED] = "paper"
    """Network that makes the pseudo word: three layers and a BatchNorm, or two layers."""
    inversion_dim: Annotated[PositiveInt, _COMPOSED] = 512
    """Hidden width of that network."""
    sync_inversion: Annotated[bool, _COMPOSED, Needs("prompt.inversion: paper")] = False
    """Take that BatchNorm's mean and variance over the batches of all processes."""
    interaction_blocks: NonNegativeInt = 2
    """Self-attention blocks after the cross-attention."""
    interaction_dropout: FractionBelowOne = 0.0
    """Dropout of these blocks."""
    unit_representation: bool = False
    """Bring what the blocks return to length 1, before head and losses."""
    triplet_levels: Annotated[Literal["image", "interaction", "final"], Needs("loss.triplet")] = (
        "image"
    )
    """Features that the triplet loss compares."""
