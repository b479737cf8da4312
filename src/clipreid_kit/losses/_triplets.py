"""Which triplets a triplet loss is about, and its slope."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipreid_kit.losses._anchorwise import BLOCK, scaled


class Hardest(torch.autograd.Function):
    """Batch-hard: pairs chosen by the matrix, distances of the chosen rows, the slope found on the way."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        anchors: Tensor,
        others: Tensor | None,
        labels: Tensor,
        other_labels: Tensor | None,
        margin: float | None,
        euclidean: bool,
        violated: bool,
    ) -> Tensor:
        columns = anchors if others is None else others
        farthest, nearest, valid = _hardest_pairs(
            anchors, others, labels, other_labels, euclidean=euclidean
        )
        pull, push = columns.index_select(0, farthest), columns.index_select(0, nearest)
        if euclidean:
            pull, push = anchors - pull, anchors - push
            to_positive = torch.linalg.vector_norm(pull, dim=1)
            to_negative = torch.linalg.vector_norm(push, dim=1)
            gap = to_positive - to_negative
        else:
            gap = (anchors * (push - pull)).sum(dim=1)
        loss, slope = _hinge(torch.where(valid, gap, -math.inf), margin)
        count = (loss > 0 if violated else valid).sum().clamp(min=1)
        if any(ctx.needs_input_grad[:2]):
            slope = slope / count
            if euclidean:  # of |a - b| by a: (a - b) / |a - b|, and 0 where they coincide
                pull *= torch.where(to_positive > 0, slope / to_positive, 0.0)[:, None]
                push *= torch.where(to_negative > 0, slope / to_negative, 0.0)[:, None]
                gradient, pulled, pushed = pull - push, pull, push
            else:
                gradient = (push - pull).mul_(slope[:, None])
                pulled = pushed = anchors * slope[:, None]
            other_gradient = gradient if others is None else torch.zeros_like(others)
            other_gradient.index_add_(0, farthest, pulled, alpha=-1).index_add_(0, nearest, pushed)
            ctx.save_for_backward(gradient, None if others is None else other_gradient)
        return loss.sum() / count

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (torch's own context)
        return *scaled(ctx.saved_tensors, slopes[0]), None, None, None, None, None


def _hardest_pairs(
    anchors: Tensor,
    others: Tensor | None,
    labels: Tensor,
    other_labels: Tensor | None,
    *,
    euclidean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Column of each anchor's farthest positive and nearest negative, and whether it has both."""
    column_labels = labels if other_labels is None else other_labels
    if euclidean:
        # |a - b|^2 without |a|^2, which decides nothing in a row; a common offset would cost digits
        middle = anchors.mean(dim=0)
        anchors = anchors - middle
        columns = anchors if others is None else others - middle
        offset, factor = columns.square().sum(dim=1), -2
    else:
        columns = anchors if others is None else others
        offset, factor = anchors.new_zeros(()), -1
    found = []
    rows = max(1, BLOCK // columns.shape[0])
    for start in range(0, anchors.shape[0], rows):
        far = torch.addmm(offset, anchors[start : start + rows], columns.T, alpha=factor)
        same = labels[start : start + rows, None] == column_labels
        near, nearest = far.masked_fill(same, math.inf).min(dim=1)
        far.masked_fill_(same.logical_not_(), -math.inf)
        if others is None:  # an anchor is not its own positive
            far.diagonal(start).fill_(-math.inf)
        most, farthest = far.max(dim=1)
        found.append(
            (farthest, nearest, (most != -math.inf) & (near != math.inf))
        )  # NaN is no reason to leave out
    if len(found) == 1:
        return found[0]
    farthest, nearest, valid = (torch.cat(parts) for parts in zip(*found, strict=True))
    return farthest, nearest, valid


def most_positives(labels: Tensor, other_labels: Tensor | None) -> int:
    """Largest number of positives of an anchor; waits for the device. All columns in a compiled graph."""
    columns = labels if other_labels is None else other_labels
    if torch.compiler.is_compiling() or labels.numel() == 0:
        return columns.shape[0]
    ordered, wanted = columns.long().sort().values, labels.long()
    count = torch.searchsorted(ordered, wanted, right=True) - torch.searchsorted(ordered, wanted)
    return int(count.max()) - (other_labels is None)


def semi_hard(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float | None,
    violated: bool,
    slots: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """For each positive the nearest negative beyond it, where it is within the margin."""
    near, place = distance.masked_fill(~positive, -math.inf).topk(slots, dim=1)
    beyond = distance.masked_fill(~negative, math.inf)
    total, count, slope = _start(distance)
    for slot in range(slots):
        to_positive = near[:, slot, None]
        to_negative, chosen = beyond.masked_fill(beyond <= to_positive, math.inf).min(
            dim=1, keepdim=True
        )
        gap = to_positive - to_negative
        mined = (to_positive != -math.inf) & (
            to_negative != math.inf
        )  # NaN is no reason to leave out
        if margin is not None:
            mined &= ~(gap < -margin)
        loss, pull = _hinge(torch.where(mined, gap, -math.inf), margin)
        total, count = total + loss.sum(), count + ((loss > 0) if violated else mined).sum()
        slope.scatter_add_(1, place[:, slot, None], pull).scatter_add_(1, chosen, -pull)
    return total, count, slope


def every(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float | None,
    violated: bool,
    slots: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every positive with every negative of an anchor, one positive of each anchor at a time."""
    near, place = distance.masked_fill(~positive, -math.inf).topk(slots, dim=1)
    far = distance.masked_fill(~negative, math.inf)
    total, count, slope = _start(distance)
    for slot in range(slots):
        to_positive = near[:, slot, None]
        loss, pull = _hinge(to_positive - far, margin)
        total = total + loss.sum()
        if violated:
            count = count + (loss > 0).sum()
        slope.sub_(pull).scatter_add_(1, place[:, slot, None], pull.sum(dim=1, keepdim=True))
    if not violated:
        count = (positive.sum(dim=1) * negative.sum(dim=1)).sum()
    return total, count, slope


def _start(distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    zero = distance.new_zeros(())
    return zero, zero.long(), torch.zeros_like(distance)


def _hinge(gap: Tensor, margin: float | None) -> tuple[Tensor, Tensor]:
    """Loss of a gap, and its slope; a gap of -inf is no triplet and costs nothing."""
    if margin is None:
        return F.softplus(gap), gap.sigmoid()
    loss = F.relu(gap + margin)
    return loss, (loss > 0).to(gap.dtype)
