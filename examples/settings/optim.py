"""The section `optim`: a model for each schedule, with its keys and its learning rates."""

import math
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from clipreid_kit import warmup_cosine_factor, warmup_multistep_factor
from examples.settings.section import (
    Fraction,
    FractionBelowOne,
    Needs,
    PositiveFraction,
    Section,
    default_tag,
)
from examples.settings.text_terms import TRAINS_ON_CAPTIONS

_SGD = Needs("optim.optimizer: sgd")
_ADAM = Needs("optim.optimizer: adam, adamw")


class AnyOptim(Section):
    """Optimiser and schedule, stepped every batch."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """The optimiser; SGD with momentum."""
    epochs: PositiveInt = 10
    """Passes over the training images, as `batch.coverage` counts them."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate of the image tower."""
    text_lr: Annotated[
        PositiveFloat | None,
        Needs("stage: joint, retrieval, text_to_person"),
        TRAINS_ON_CAPTIONS,
    ] = None
    """Learning rate of the text tower; defaults to `lr`."""
    projection_lr: Annotated[PositiveFloat | None, Needs("model.train_projections: true")] = None
    """Learning rate of both towers' last projections; defaults to their tower's."""
    head_lr: Annotated[
        PositiveFloat | None,
        Needs(
            *("stage: clip_reid, prompt_sg", "loss.id", "loss.id_text", "loss.learn_temperature"),
            *("loss.masked_language", "tokens.selection_dim > 0"),
        ),
    ] = None
    """Learning rate of heads and prompts; defaults to `lr`."""
    center_lr: Annotated[PositiveFloat, Needs("loss.center")] = 0.5
    """Learning rate of the centers, by plain SGD."""
    weight_decay: NonNegativeFloat = 0.05
    """Weight decay of matrices and kernels."""
    decay_all: Annotated[bool, Needs("optim.weight_decay > 0")] = False
    """Decay biases, norms and embedding tables as well."""
    bias_lr_factor: PositiveFloat = 1.0
    """Factor on the learning rate of biases."""
    layer_decay: PositiveFraction = 1.0
    """Factor on the learning rate from each block to the block before it."""
    momentum: Annotated[FractionBelowOne, _SGD] = 0.9
    """Momentum of SGD."""
    beta1: Annotated[FractionBelowOne, _ADAM] = 0.9
    """First beta of Adam and AdamW."""
    beta2: Annotated[FractionBelowOne, _ADAM] = 0.999
    """Second beta of Adam and AdamW."""
    warmup_epochs: NonNegativeFloat = 1.0
    """Epochs of linear warm-up; may be a fraction."""
    warmup_factor: Annotated[Fraction, Needs("optim.warmup_epochs > 0")] = 0.0
    """Fraction of the rate at which the warm-up begins."""
    by_epoch: bool = False
    """Keep the rate constant during an epoch."""
    clip_norm: PositiveFloat | None = 5.0
    """Largest global gradient norm; null for no clipping."""
    ema_decay: FractionBelowOne = 0.0
    """Decay of an exponential moving average of the weights, which is evaluated; 0 for none."""

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError("`optim.warmup_epochs` must be below `optim.epochs`")
        return self

    def rate(self, peak: float, step: int, steps_per_epoch: int) -> float:
        """Learning rate at a step, counted from 0, of parameters with this peak rate."""
        unit = steps_per_epoch
        if self.by_epoch:
            step, unit = step // steps_per_epoch, 1

        return self._rate(peak, step, round(self.warmup_epochs * unit), unit)

    def _rate(self, peak: float, step: int, warmup: int, unit: int) -> float:
        """Likewise, with step and warm-up in units, of which an epoch has ``unit``."""
        return self._falling(peak, step, warmup, unit, [], gamma=1.0)

    def _falling(
        self, peak: float, step: int, warmup: int, unit: int, epochs: list[int], *, gamma: float
    ) -> float:
        """A rate that is multiplied by ``gamma`` at each of these epochs."""
        factor = warmup_multistep_factor(
            step,
            warmup,
            [epoch * unit for epoch in epochs],
            gamma=gamma,
            start_factor=self.warmup_factor,
        )
        return peak * factor


class ConstantOptim(AnyOptim):
    """Optimiser, and a constant rate after the warm-up."""

    schedule: Literal["constant"]


class MinimalRate(AnyOptim):
    """Optimiser, and a rate that falls to a minimum."""

    min_lr: NonNegativeFloat = 0.0
    """Learning rate at the end of a cosine."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        rates = (self.lr, self.text_lr, self.head_lr, self.projection_lr)
        if self.min_lr > min(rate for rate in rates if rate is not None):
            raise ValueError("`optim.min_lr` must be at most every other learning rate")
        return self

    def _cosine(
        self, peak: float, step: int, warmup: int, unit: int, period: int | None = None
    ) -> float:
        factor = warmup_cosine_factor(
            step,
            warmup,
            self.epochs * unit,
            start_factor=self.warmup_factor,
            min_factor=min(self.min_lr / peak, 1.0),
            restart_period=period,
        )
        return peak * factor


class CosineOptim(MinimalRate):
    """Optimiser, and a cosine after the warm-up."""

    schedule: Literal["cosine"] = "cosine"
    """Schedule of the learning rate after the warm-up."""

    def _rate(self, peak: float, step: int, warmup: int, unit: int) -> float:
        return self._cosine(peak, step, warmup, unit)


class RestartsOptim(MinimalRate):
    """Optimiser, and a cosine that starts again."""

    schedule: Literal["restarts"]
    step_epochs: PositiveInt = 30
    """Epochs between restarts, or between steps."""

    def _rate(self, peak: float, step: int, warmup: int, unit: int) -> float:
        return self._cosine(peak, step, warmup, unit, self.step_epochs * unit)


class SteppedRate(AnyOptim):
    """Optimiser, and a rate that falls in steps."""

    gamma: Fraction = 0.1
    """Factor on the rate at each step; of `exponential` every epoch."""


class MultistepOptim(SteppedRate):
    """Optimiser, and a rate that falls at given epochs."""

    schedule: Literal["multistep"]
    milestones: list[PositiveInt] = Field(default_factory=list)
    """Epochs at which the rate falls."""

    @model_validator(mode="after")
    def _rises_after_the_warmup(self) -> Self:
        rising = self.milestones == sorted(set(self.milestones))
        if not rising or any(epoch < self.warmup_epochs for epoch in self.milestones):
            raise ValueError("`optim.milestones` must rise, and come after the warm-up")
        return self

    def _rate(self, peak: float, step: int, warmup: int, unit: int) -> float:
        return self._falling(peak, step, warmup, unit, self.milestones, gamma=self.gamma)


class StepOptim(SteppedRate):
    """Optimiser, and a rate that falls at regular steps."""

    schedule: Literal["step"]
    step_epochs: PositiveInt = 30
    """Epochs between restarts, or between steps."""

    def _rate(self, peak: float, step: int, warmup: int, unit: int) -> float:
        every = range(self.step_epochs, self.epochs, self.step_epochs)
        after = [epoch for epoch in every if epoch * unit >= warmup]
        return self._falling(peak, step, warmup, unit, after, gamma=self.gamma)


class ExponentialOptim(SteppedRate):
    """Optimiser, and a rate that falls every epoch."""

    schedule: Literal["exponential"]

    def _rate(self, peak: float, step: int, warmup: int, unit: int) -> float:
        passed = max(step - warmup, 0) / unit
        rate = self._falling(peak, step, warmup, unit, [], gamma=self.gamma)
        return rate * self.gamma ** math.floor(passed)


Optim = Annotated[
    CosineOptim | ConstantOptim | RestartsOptim | MultistepOptim | StepOptim | ExponentialOptim,
    Field(discriminator="schedule"),
    default_tag("schedule", "cosine"),
]
