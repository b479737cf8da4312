"""Value and gradient of the supervised contrastive loss, for one set of rows and for two.

Three ways: one modality that fits in a block, one modality by blocks, and anchors against a
contrast set. With :math:`p` the softmax of an anchor's logits, the slope of its loss by a logit is
``of_logsumexp`` times :math:`p`, less ``of_positive`` for a positive (see ``AnchorWeights``).
"""

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from clipreid_kit.losses._engine.attached_gradient import (
    attach_gradients,
    needs_gradient,
    without_autocast,
)
from clipreid_kit.losses._engine.row_blocks import TwoPassBlocks, row_blocks
from clipreid_kit.losses._engine.unit_rows import LogitGradient, LogitNeeds, UnitRows

Positives = Literal["mean", "sum"]

# Logits of a block of rows, from the diagonal on, and which of them are positives.
SymmetricBlock = tuple[Tensor, Tensor]


class AnchorWeights(NamedTuple):
    """Weights in the loss of each anchor.

    The loss is ``of_logsumexp * logsumexp - of_positive * sum of the logits of the positives``.

    Attributes:
        valid: 1 for an anchor that has a positive, else 0.
        of_logsumexp: Weight of the logsumexp of its logits.
        of_positive: Weight of the logit of each positive.
    """

    valid: Tensor
    of_logsumexp: Tensor
    of_positive: Tensor


class BlockLoss(NamedTuple):
    """Loss of a block of anchors.

    Attributes:
        total: Sum of the losses.
        num_valid: Number of anchors that have a positive.
        slope: Slope of the sum by each logit.
    """

    total: Tensor
    num_valid: Tensor
    slope: Tensor


def supcon_one_block(
    embeddings: Tensor, labels: Tensor, scale: float, positives: Positives
) -> Tensor:
    """Loss of one modality, in a single block.

    The logits are symmetric, so the slope is added to its transpose: one product gives the gradient
    instead of two.
    """
    needs = needs_gradient(embeddings)
    input_gradients = []

    with torch.no_grad(), without_autocast(embeddings.device):
        unit = UnitRows(embeddings)
        logits_NN = (unit.rows @ unit.rows.T).mul_(scale)
        positive_NN = labels[:, None] == labels[None, :]

        # An anchor is neither its own positive nor its own negative.
        logits_NN.diagonal().fill_(-torch.inf)
        positive_NN.diagonal().fill_(False)  # noqa: FBT003 (torch's own signature)

        total, num_valid, slope_NN = _block_loss(
            logits_NN, positive_NN, positives, diagonal_is_masked=True
        )
        num_valid = num_valid.clamp(min=1)

        if needs:
            slope_NN = slope_NN + slope_NN.T

            # A multiple of the row itself makes its gradient orthogonal to it.
            logits_NN.diagonal().fill_(0)
            along_N = (slope_NN * logits_NN).sum(dim=1).div_(-scale)
            slope_NN.diagonal().copy_(along_N)

            gradient = slope_NN @ unit.rows
            input_gradients.append(unit.input_gradient_of_orthogonal(gradient, num_valid / scale))

    return attach_gradients(total / num_valid, input_gradients)


def supcon_with_contrast(
    anchors: Tensor,
    labels: Tensor,
    contrast: Tensor,
    contrast_labels: Tensor,
    scale: float,
    positives: Positives,
    block_size: int | None,
) -> Tensor:
    """Loss of anchors against a contrast set, in one pass over blocks of anchors."""
    needs = LogitNeeds.of(anchors, contrast, scale)

    with torch.no_grad(), without_autocast(anchors.device):
        anchor_rows = UnitRows(anchors)
        contrast_rows = UnitRows(contrast)
        gradient = LogitGradient(anchor_rows, contrast_rows, scale, needs)
        totals = []
        counts = []

        bounds = row_blocks(block_size, anchors.shape[0], contrast.shape[0], anchors.device)
        for start, stop in bounds:
            logits_BM = (anchor_rows.rows[start:stop] @ contrast_rows.rows.T).mul_(scale)
            positive_BM = labels[start:stop, None] == contrast_labels[None, :]
            total, num_valid, slope_BM = _block_loss(logits_BM, positive_BM, positives)

            totals.append(total)
            counts.append(num_valid)
            gradient.add_block(start, stop, slope_BM)

        num_valid = torch.stack(counts).sum().clamp(min=1)
        input_gradients = gradient.input_gradients(num_valid / scale)
        value = torch.stack(totals).sum() / num_valid

    return attach_gradients(value, input_gradients)


def supcon_by_blocks(
    embeddings: Tensor, labels: Tensor, scale: float, positives: Positives, block_size: int | None
) -> Tensor:
    """Loss of one modality by blocks, in two passes.

    The logits are symmetric, so a block of rows begins at its diagonal and serves both sides. The
    logsumexp of a row is known after the last block only.
    """
    needs = needs_gradient(embeddings)
    input_gradients = []

    with torch.no_grad(), without_autocast(embeddings.device):
        unit = UnitRows(embeddings)
        num_rows = embeddings.shape[0]
        compute = partial(_symmetric_block, unit.rows, labels, scale)
        blocks = TwoPassBlocks(compute, block_size, num_rows, num_rows, embeddings.device)

        num_positives_N, positive_sum_N, logsumexp_N = _first_pass(blocks, unit.rows)
        weights = _anchor_weights(num_positives_N, positives)
        num_valid = weights.valid.sum().clamp(min=1)

        push_N = weights.of_logsumexp * logsumexp_N
        pull_N = weights.of_positive * positive_sum_N
        value = (push_N - pull_N).sum() / num_valid

        if needs:
            gradient = _second_pass(blocks, unit.rows, logsumexp_N, weights)
            input_gradients.append(unit.input_gradient(gradient, num_valid / scale))

    return attach_gradients(value, input_gradients)


def _block_loss(
    logits_BM: Tensor,
    positive_BM: Tensor,
    positives: Positives,
    *,
    diagonal_is_masked: bool = False,
) -> BlockLoss:
    """Loss and slope of a block; a masked diagonal of the slope has no meaning."""
    log_prob_BM = logits_BM.log_softmax(dim=1)
    slope_BM = positive_BM.to(logits_BM.dtype)
    valid_B, logsumexp_weight_B, positive_weight_B = _anchor_weights(slope_BM.sum(dim=1), positives)
    slope_BM.mul_(-positive_weight_B[:, None])

    # A log-probability of -inf times a weight of 0 would not be 0.
    if diagonal_is_masked:
        log_prob_BM.diagonal().fill_(0)

    total = torch.dot(slope_BM.view(-1), log_prob_BM.view(-1))
    probability_BM = log_prob_BM.exp_()
    slope_BM.addcmul_(probability_BM, logsumexp_weight_B[:, None])

    return BlockLoss(total, valid_B.sum(), slope_BM)


def _anchor_weights(num_positives_N: Tensor, positives: Positives) -> AnchorWeights:
    valid_N = num_positives_N.clamp(max=1)
    if positives == "sum":
        return AnchorWeights(valid_N, num_positives_N, torch.ones_like(num_positives_N))
    return AnchorWeights(valid_N, valid_N, num_positives_N.clamp(min=1).reciprocal())


def _symmetric_block(
    rows: Tensor, labels: Tensor, scale: float, start: int, stop: int
) -> SymmetricBlock:
    logits = (rows[start:stop] @ rows[start:].T).mul_(scale)
    logits.diagonal().fill_(-torch.inf)

    positive = labels[start:stop, None] == labels[None, start:]
    positive.diagonal().fill_(False)  # noqa: FBT003 (torch's own signature)

    return logits, positive


def _first_pass(
    blocks: TwoPassBlocks[SymmetricBlock], rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Number of positives, sum of their logits, and logsumexp of all logits, for each anchor."""
    num_rows = rows.shape[0]
    num_positives_N = rows.new_zeros(num_rows)
    positive_sum_N = rows.new_zeros(num_rows)
    logsumexp_N = rows.new_full((num_rows,), -torch.inf)

    for start, stop, (logits, positive) in blocks.first_pass():
        positive_logits = torch.where(positive, logits, 0.0)
        num_positives_N[start:stop] += positive.sum(dim=1)
        positive_sum_N[start:stop] += positive_logits.sum(dim=1)
        logsumexp_N[start:stop] = torch.logaddexp(logsumexp_N[start:stop], logits.logsumexp(dim=1))

        # The same pairs, seen from the rows below the block.
        if stop < num_rows:
            below = slice(stop - start, None)
            num_positives_N[stop:] += positive[:, below].sum(dim=0)
            positive_sum_N[stop:] += positive_logits[:, below].sum(dim=0)
            logsumexp_N[stop:] = torch.logaddexp(
                logsumexp_N[stop:], logits[:, below].logsumexp(dim=0)
            )

    return num_positives_N, positive_sum_N, logsumexp_N


def _second_pass(
    blocks: TwoPassBlocks[SymmetricBlock], rows: Tensor, logsumexp_N: Tensor, weights: AnchorWeights
) -> Tensor:
    """Gradient by the unit rows, from the slopes of each pair in both of its roles."""
    num_rows = rows.shape[0]
    gradient = torch.zeros_like(rows)
    positive_weight_N = weights.of_positive

    # exp(logit - shift) is the weighted softmax; for an anchor without a positive it is exp(-inf).
    shift_N = logsumexp_N - weights.of_logsumexp.log()

    for start, stop, (logits, positive) in blocks.second_pass():
        slope = (logits - shift_N[None, start:]).exp_()
        slope += logits.sub_(shift_N[start:stop, None]).exp_()

        pull = positive_weight_N[start:stop, None] + positive_weight_N[None, start:]
        slope -= torch.where(positive, pull, 0.0)

        gradient[start:stop].addmm_(slope, rows[start:])
        if stop < num_rows:
            gradient[stop:].addmm_(slope[:, stop - start :].T, rows[start:stop])

    return gradient
