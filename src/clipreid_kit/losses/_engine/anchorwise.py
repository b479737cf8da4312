"""Losses that are a mean over anchors of a function of the anchor's similarities or distances.

The matrix of all pairs is never held. Each block of anchors is computed, turned into its loss and
its slope, and folded into the gradients of the rows at once. Memory is a block and the gradients,
and a block stays in the processor's cache. The distances of a block are computed here, and not by
``distances``, because their slope is applied by hand.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from clipreid_kit.distances import at_least_float32, to_common_precision
from clipreid_kit.losses._engine.argument_checks import check_contrast
from clipreid_kit.losses._engine.attached_gradient import (
    InputGradient,
    attach_gradients,
    needs_gradient,
    without_autocast,
)
from clipreid_kit.losses._engine.contrast_set import connected_zero
from clipreid_kit.losses._engine.unit_rows import UnitRows

# Pairs held at once: 4 MiB in float32.
BLOCK_ELEMENTS = 2**20

Measure = Literal["similarity", "cosine", "euclidean"]
"""Cosine similarity, cosine distance 1 - similarity, or Euclidean distance of unchanged rows."""


class BlockLoss(NamedTuple):
    """Loss of a block of anchors.

    Attributes:
        total: Sum of the block's losses.
        num_losses: Number of losses to average over.
        slope: Slope of the sum by each entry of the block.
    """

    total: Tensor
    num_losses: Tensor
    slope: Tensor


AnchorRule = Callable[[Tensor, Tensor, Tensor], BlockLoss]
"""Maps a block of the matrix, its positives and its negatives, all (B, M) and read only."""


def anchorwise_loss(
    owner: str,
    embeddings: Tensor,
    labels: Tensor,
    contrast: Tensor | None,
    contrast_labels: Tensor | None,
    rule: AnchorRule,
    measure: Measure,
) -> Tensor:
    """Check the rows, and average what ``rule`` returns over the anchors.

    Where there is no pair at all it is zero, connected to the graph.
    """
    check_contrast(owner, embeddings, labels, contrast, contrast_labels)

    with without_autocast(embeddings.device):
        anchors = at_least_float32(embeddings)
        if contrast is not None:
            anchors, contrast = to_common_precision(anchors, contrast)

        if anchors.shape[0] == 0 or (contrast is not None and contrast.shape[0] == 0):
            return connected_zero(anchors, contrast)

        mean = mean_over_anchors if measure == "euclidean" else _mean_over_unit_anchors
        return mean(anchors, contrast, labels, contrast_labels, rule, measure)


def anchors_per_block(num_columns: int) -> int:
    """Number of anchors whose pairs are held at once."""
    return max(1, BLOCK_ELEMENTS // num_columns)


def logsumexp_and_softmax(logits_BM: Tensor) -> tuple[Tensor, Tensor]:
    """Logsumexp of every row and its slope; -inf with slope 0 for a row of -inf."""
    largest_B = logits_BM.amax(dim=1)
    is_empty_B = largest_B == -torch.inf
    softmax_BM = logits_BM.softmax(dim=1).masked_fill_(is_empty_B[:, None], 0.0)

    # The largest probability is exp(largest - logsumexp), in [1 / M, 1].
    logsumexp_B = largest_B - softmax_BM.amax(dim=1).log()
    return torch.where(is_empty_B, largest_B, logsumexp_B), softmax_BM


def mean_over_anchors(
    anchors: Tensor,
    contrast: Tensor | None,
    labels: Tensor,
    contrast_labels: Tensor | None,
    rule: AnchorRule,
    measure: Measure,
) -> Tensor:
    """Average the rule over the anchors, block by block, with the gradients of the rows.

    The rows are checked, prepared, and not empty.
    """
    needs = needs_gradient(anchors), needs_gradient(contrast)

    with torch.no_grad():
        rows, columns = anchors, contrast
        if measure == "euclidean":
            rows, columns = _subtract_mean(anchors, contrast)

        sums = _RowGradients(rows, columns, measure, *needs)
        total, count = _sum_over_anchors(rows, columns, labels, contrast_labels, rule, sums)
        share = total.new_ones(()) / count.clamp(min=1)

        gradients = []
        if sums.by_anchors is not None:
            gradients.append(InputGradient(anchors, sums.by_anchors, share))
        if contrast is not None and sums.by_contrast is not None:
            gradients.append(InputGradient(contrast, sums.by_contrast, share))

    return attach_gradients(total * share, gradients)


def _mean_over_unit_anchors(
    anchors: Tensor,
    contrast: Tensor | None,
    labels: Tensor,
    contrast_labels: Tensor | None,
    rule: AnchorRule,
    measure: Measure,
) -> Tensor:
    """The same for rows that are normalised here, with the gradient through that."""
    needs = needs_gradient(anchors), needs_gradient(contrast)

    with torch.no_grad():
        unit = UnitRows(anchors)
        unit_contrast = None if contrast is None else UnitRows(contrast)
        columns = None if unit_contrast is None else unit_contrast.rows

        sums = _RowGradients(unit.rows, columns, measure, *needs)
        total, count = _sum_over_anchors(unit.rows, columns, labels, contrast_labels, rule, sums)
        count = count.clamp(min=1)

        gradients = []
        if sums.by_anchors is not None:
            gradients.append(unit.input_gradient(sums.by_anchors, count))
        if unit_contrast is not None and sums.by_contrast is not None:
            gradients.append(unit_contrast.input_gradient(sums.by_contrast, count))

    return attach_gradients(total / count, gradients)


def _sum_over_anchors(
    anchors: Tensor,
    contrast: Tensor | None,
    labels: Tensor,
    contrast_labels: Tensor | None,
    rule: AnchorRule,
    gradients: "_RowGradients",
) -> tuple[Tensor, Tensor]:
    """Sum of the losses and their number; the gradients of the sum are added to ``gradients``."""
    columns = anchors if contrast is None else contrast
    column_labels = labels if contrast_labels is None else contrast_labels
    total = anchors.new_zeros(())
    count = labels.new_zeros((), dtype=torch.long)
    block_size = anchors_per_block(columns.shape[0])

    for start in range(0, anchors.shape[0], block_size):
        block = slice(start, start + block_size)
        matrix_BM = _matrix(anchors[block], columns, gradients.measure)
        positive_BM = labels[block, None] == column_labels
        negative_BM = ~positive_BM

        # An anchor is not its own positive.
        if contrast is None:
            positive_BM.diagonal(start).zero_()

        loss = rule(matrix_BM, positive_BM, negative_BM)
        total = total + loss.total
        count = count + loss.num_losses
        gradients.add_block(block, loss.slope, matrix_BM)

    return total, count


class _RowGradients:
    """Gradients of the sum by the anchors and by the contrast set, collected block by block."""

    def __init__(
        self,
        anchors: Tensor,
        contrast: Tensor | None,
        measure: Measure,
        needs_anchors: bool,
        needs_contrast: bool,
    ) -> None:
        self._anchors = anchors
        self._contrast = contrast
        self.measure: Measure = measure

        self.by_anchors = torch.zeros_like(anchors) if needs_anchors else None
        self.by_contrast: Tensor | None = None
        if contrast is not None and needs_contrast:
            self.by_contrast = torch.zeros_like(contrast)

    def add_block(self, block: slice, slope_BM: Tensor, matrix_BM: Tensor) -> None:
        """Add the pairs of a block of anchors, in both roles."""
        if self.by_anchors is None and self.by_contrast is None:
            return

        weights_BM = _weights(slope_BM, matrix_BM, self.measure)
        if self._contrast is None:
            self._add_one_modality(block, weights_BM)
        else:
            self._add_two_modalities(block, weights_BM, self._contrast)

    def _add_one_modality(self, block: slice, weights_BM: Tensor) -> None:
        if self.by_anchors is None:
            return

        rows = self._anchors

        # A single block: both roles of a row in one product.
        if weights_BM.shape[0] == rows.shape[0]:
            both = weights_BM + weights_BM.T
            self.by_anchors = _weighted_sum(both, rows, rows, self.measure)
            return

        self.by_anchors += _weighted_sum(weights_BM.T, rows, rows[block], self.measure)
        self.by_anchors[block] += _weighted_sum(weights_BM, rows[block], rows, self.measure)

    def _add_two_modalities(self, block: slice, weights_BM: Tensor, contrast: Tensor) -> None:
        anchors = self._anchors[block]

        if self.by_anchors is not None:
            self.by_anchors[block] += _weighted_sum(weights_BM, anchors, contrast, self.measure)
        if self.by_contrast is not None:
            self.by_contrast += _weighted_sum(weights_BM.T, contrast, anchors, self.measure)


def _subtract_mean(anchors: Tensor, contrast: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Subtract the anchors' mean; a common offset costs digits and changes no distance."""
    mean = anchors.mean(dim=0)
    return anchors - mean, None if contrast is None else contrast - mean


def _matrix(block: Tensor, columns: Tensor, measure: Measure) -> Tensor:
    if measure == "similarity":
        return block @ columns.T

    if measure == "cosine":
        return torch.addmm(block.new_ones(()), block, columns.T, alpha=-1)

    squared = torch.addmm(columns.square().sum(dim=1), block, columns.T, alpha=-2)
    return squared.add_(block.square().sum(dim=1)[:, None]).clamp_(min=0).sqrt_()


def _weights(slope_BM: Tensor, matrix_BM: Tensor, measure: Measure) -> Tensor:
    """Weight of each pair in the gradient of its rows."""
    if measure == "similarity":
        return slope_BM

    if measure == "cosine":
        return -slope_BM

    # The slope of |a - b| by a is (a - b) / |a - b|, and 0 where the rows coincide.
    return (slope_BM / matrix_BM).masked_fill_(matrix_BM == 0, 0.0)


def _weighted_sum(weights: Tensor, rows: Tensor, columns: Tensor, measure: Measure) -> Tensor:
    """Gradient of the rows: the weighted sum of the columns, or of the differences from them."""
    if measure == "euclidean":
        weighted_rows = weights.sum(dim=1)[:, None] * rows
        return torch.addmm(weighted_rows, weights, columns, alpha=-1)
    return weights @ columns
