"""What :func:`supcon_loss` computes: value and gradient together, for one set of rows and for two."""

from typing import Literal

import torch
from torch import Tensor

from clipreid_kit.losses._blocks import (
    TwoRuns,
    UnitRows,
    add_product,
    attach,
    exactly,
    join,
    spans,
    wanted,
)

Positives = Literal["mean", "sum"]
Block = tuple[Tensor, Tensor]


def _shares(count_N: Tensor, positives: Positives) -> tuple[Tensor, Tensor, Tensor]:
    """1 for an anchor with a positive; weights in its loss: of its logsumexp, and of each of its positives."""
    valid_N = count_N.clamp(max=1)
    if positives == "sum":
        return valid_N, count_N, torch.ones_like(count_N)
    return valid_N, valid_N, count_N.clamp(min=1).reciprocal()


def _rows(
    logits_BM: Tensor, positive_BM: Tensor, positives: Positives, *, among: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the losses of some anchors, how many have a positive, and the slope at the logits.

    With ``among`` anchors and candidates are the same rows: an anchor is neither its own positive nor its own negative,
    and the diagonal of the slope means nothing.
    """
    if among:
        logits_BM.diagonal().fill_(-torch.inf)
        positive_BM.diagonal().fill_(False)  # noqa: FBT003 (torch's own signature)
    log_prob_BM = logits_BM.log_softmax(dim=1)
    slope_BM = positive_BM.to(logits_BM.dtype)
    valid_B, push_B, each_B = _shares(slope_BM.sum(dim=1), positives)
    slope_BM.mul_(-each_B[:, None])
    if among:
        log_prob_BM.diagonal().fill_(0)  # -inf times a weight of 0 is not 0
    loss = torch.dot(slope_BM.view(-1), log_prob_BM.view(-1))
    return loss, valid_B.sum(), slope_BM.addcmul_(log_prob_BM.exp_(), push_B[:, None])


def whole(embeddings: Tensor, labels: Tensor, scale: float, positives: Positives) -> Tensor:
    """One modality, in one block. The slope is added to its transpose: one product gives the gradient, and not two."""
    learn = wanted(embeddings)
    with torch.no_grad(), exactly(embeddings.device):
        unit = UnitRows(embeddings)
        logits_NN = (unit.rows @ unit.rows.T).mul_(scale)
        loss, usable, slope_NN = _rows(
            logits_NN, labels[:, None] == labels[None, :], positives, among=True
        )
        usable = usable.clamp(min=1)
        part = None
        if learn:
            slope_NN = slope_NN + slope_NN.T
            logits_NN.diagonal().fill_(0)
            # a multiple of the row itself makes its gradient orthogonal to it
            slope_NN.diagonal().copy_((slope_NN * logits_NN).sum(dim=1).div_(-scale))
            part = unit.across(slope_NN @ unit.rows, usable / scale)
    return attach(loss / usable, part)


def across(
    anchors: Tensor,
    labels: Tensor,
    candidates: Tensor,
    candidate_labels: Tensor,
    scale: float,
    positives: Positives,
    block_size: int | None,
) -> Tensor:
    """Two sets of rows: a block of anchors holds all that its loss and its gradient need."""
    learn, learn_other = wanted(anchors), wanted(candidates)
    with torch.no_grad(), exactly(anchors.device):
        first, second = UnitRows(anchors), UnitRows(candidates)
        parts, losses, counts = [], [], []
        to_second: Tensor | None = None
        for start, stop in spans(block_size, anchors.shape[0], candidates.shape[0], anchors.device):
            rows_BD = first.rows[start:stop]
            logits_BM = (rows_BD @ second.rows.T).mul_(scale)
            positive_BM = labels[start:stop, None] == candidate_labels[None, :]
            loss, usable, slope_BM = _rows(logits_BM, positive_BM, positives)
            losses.append(loss)
            counts.append(usable)
            if learn:
                parts.append(slope_BM @ second.rows)
            if learn_other:
                to_second = add_product(to_second, slope_BM.T, rows_BD)
        usable = torch.stack(counts).sum().clamp(min=1)
        first_part = first.back(join(parts), usable / scale) if parts else None
        second_part = second.back(to_second, usable / scale) if to_second is not None else None
        loss = torch.stack(losses).sum() / usable
    return attach(loss, first_part, second_part)


def triangle(
    embeddings: Tensor, labels: Tensor, scale: float, positives: Positives, block_size: int | None
) -> Tensor:
    """One modality, by blocks. Logits are symmetric: each block of rows begins at its diagonal, and serves both sides.

    A row's logsumexp is known when the last block was seen, so that blocks are run over twice.
    """
    learn = wanted(embeddings)
    with torch.no_grad(), exactly(embeddings.device):
        unit, total = UnitRows(embeddings), embeddings.shape[0]
        rows = unit.rows

        def block(start: int, stop: int) -> Block:
            logits = (rows[start:stop] @ rows[start:].T).mul_(scale)
            positive = labels[start:stop, None] == labels[None, start:]
            logits.diagonal().fill_(-torch.inf)
            positive.diagonal().fill_(False)  # noqa: FBT003 (torch's own signature)
            return logits, positive

        blocks = TwoRuns(block, block_size, total, total, rows.device)
        count_N, pull_N, lse_N = (
            rows.new_zeros(total),
            rows.new_zeros(total),
            rows.new_full((total,), -torch.inf),
        )
        for start, stop, (logits, positive) in blocks.read():
            pull = torch.where(positive, logits, 0.0)
            count_N[start:stop] += positive.sum(dim=1)
            pull_N[start:stop] += pull.sum(dim=1)
            lse_N[start:stop] = torch.logaddexp(lse_N[start:stop], logits.logsumexp(dim=1))
            if stop < total:  # the same pairs, seen from the rows below
                wide = stop - start
                count_N[stop:] += positive[:, wide:].sum(dim=0)
                pull_N[stop:] += pull[:, wide:].sum(dim=0)
                lse_N[stop:] = torch.logaddexp(lse_N[stop:], logits[:, wide:].logsumexp(dim=0))
        valid_N, push_N, each_N = _shares(count_N, positives)
        usable = valid_N.sum().clamp(min=1)
        loss = (push_N * lse_N - each_N * pull_N).sum() / usable
        part = None
        if learn:
            gradient = torch.zeros_like(rows)
            shift_N = (
                lse_N - push_N.log()
            )  # exp(logit - shift) = push x softmax; of an anchor left out exp(-inf)
            for start, stop, (logits, positive) in blocks.overwrite():
                slope = (logits - shift_N[None, start:]).exp_()
                slope += logits.sub_(shift_N[start:stop, None]).exp_()
                slope -= torch.where(positive, each_N[start:stop, None] + each_N[None, start:], 0.0)
                gradient[start:stop].addmm_(slope, rows[start:])
                if stop < total:
                    gradient[stop:].addmm_(slope[:, stop - start :].T, rows[start:stop])
            part = unit.back(gradient, usable / scale)
    return attach(loss, part)
