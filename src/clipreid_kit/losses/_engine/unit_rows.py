"""Unit rows without a graph, and the gradient through their normalisation and their products."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clipreid_kit.losses._engine.attached_gradient import InputGradient, needs_gradient
from clipreid_kit.losses._engine.row_blocks import accumulate_product, concatenate


class UnitRows:
    """Rows scaled to length 1 as by ``l2_normalize``, and the way back for their gradient."""

    def __init__(self, embeddings: Tensor) -> None:
        length = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)

        # An infinite length leaves a zero row at zero, and gives it no gradient.
        self._length = F.threshold(length, 0.0, torch.inf)
        self._embeddings = embeddings
        self.rows = embeddings / self._length

    def input_gradient(self, gradient: Tensor, divisor: float | Tensor) -> InputGradient:
        """Gradient by the embeddings of a gradient by the unit rows, divided by ``divisor``.

        A unit row can only turn, so the part of the gradient along the row is removed. ``gradient``
        is overwritten.
        """
        along = (self.rows * gradient).sum(dim=1, keepdim=True)
        across = gradient.addcmul_(self.rows, along, value=-1)
        return self.input_gradient_of_orthogonal(across, divisor)

    def input_gradient_of_orthogonal(
        self, gradient: Tensor, divisor: float | Tensor
    ) -> InputGradient:
        """The same for a gradient that is orthogonal to each of its rows already."""
        factor = (self._length * divisor).reciprocal()
        return InputGradient(self._embeddings, gradient, factor)


class LogitNeeds(NamedTuple):
    """Inputs of logits ``scale * first @ second.T`` that need a gradient."""

    first: bool
    second: bool
    scale: bool

    @classmethod
    def of(cls, first: Tensor, second: Tensor, scale: float | Tensor) -> "LogitNeeds":
        """Ask autograd; to be called where gradients are enabled."""
        return cls(needs_gradient(first), needs_gradient(second), needs_gradient(scale))

    def any(self) -> bool:
        """Whether any of the three does."""
        return self.first or self.second or self.scale


class LogitGradient:
    """Gradient by the inputs of the logits ``scale * first @ second.T``, block by block."""

    def __init__(
        self, first: UnitRows, second: UnitRows, scale: float | Tensor, needs: LogitNeeds
    ) -> None:
        self._first = first
        self._second = second
        self._scale = scale
        self._needs = needs
        self._by_first: list[Tensor] = []
        self._by_second: Tensor | None = None

    def add_block(self, start: int, stop: int, slope_BM: Tensor) -> None:
        """Add a block of rows, given the slope of the loss at each logit of the block."""
        if self._needs.first or self._needs.scale:
            self._by_first.append(slope_BM @ self._second.rows)

        if self._needs.second:
            rows_BD = self._first.rows[start:stop]
            self._by_second = accumulate_product(self._by_second, slope_BM.T, rows_BD)

    def input_gradients(
        self, divisor: float | Tensor, scale_divisor: float | Tensor = 1
    ) -> list[InputGradient]:
        """Gradients by the inputs that need one.

        The rows' gradients are divided by ``divisor``, which holds the scale, and that of the scale
        by ``scale_divisor``.
        """
        gradients = []

        if self._by_first:
            by_first = concatenate(self._by_first)

            # Before the rows' gradient, which overwrites the matrix.
            if isinstance(self._scale, Tensor) and self._needs.scale:
                by_scale = (by_first * self._first.rows).sum() / scale_divisor
                gradients.append(InputGradient(self._scale, by_scale, torch.ones_like(self._scale)))

            if self._needs.first:
                gradients.append(self._first.input_gradient(by_first, divisor))

        if self._by_second is not None:
            gradients.append(self._second.input_gradient(self._by_second, divisor))

        return gradients
