"""Triplet mining: which triplets count, their losses and their slopes."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clipreid_kit.losses._engine.anchorwise import BlockLoss, anchors_per_block
from clipreid_kit.losses._engine.attached_gradient import attach_whole_gradients, needs_gradient


class HardestPairs(NamedTuple):
    """Column of each anchor's farthest positive and nearest negative, and whether it has both."""

    farthest: Tensor
    nearest: Tensor
    valid: Tensor


def hardest_triplets(
    anchors: Tensor,
    contrast: Tensor | None,
    labels: Tensor,
    contrast_labels: Tensor | None,
    *,
    margin: float | None,
    euclidean: bool,
    only_violated: bool,
) -> Tensor:
    """Batch-hard triplet loss.

    The matrix of distances only chooses the pairs. The distances themselves are those of the chosen
    rows, and the gradient is computed with the value.
    """
    needs = needs_gradient(anchors) or needs_gradient(contrast)
    by_anchor: Tensor | None = None
    by_contrast: Tensor | None = None

    with torch.no_grad():
        columns = anchors if contrast is None else contrast
        farthest_N, nearest_N, valid_N = _hardest_pairs(
            anchors, contrast, labels, contrast_labels, euclidean=euclidean
        )

        # The positives, and behind them the negatives.
        chosen_2N = torch.cat((farthest_N, nearest_N))
        chosen = columns.index_select(0, chosen_2N).view(2, *anchors.shape)
        triplets = _EuclideanGap(anchors, chosen) if euclidean else _CosineGap(anchors, chosen)

        loss_N, slope_N = _hinge(torch.where(valid_N, triplets.gap, -math.inf), margin)
        counted_N = loss_N > 0 if only_violated else valid_N
        count = counted_N.sum().clamp(min=1)
        value = loss_N.sum() / count

        if needs:
            by_anchor, from_chosen = triplets.gradients(slope_N / count)
            by_contrast = by_anchor if contrast is None else torch.zeros_like(contrast)
            by_contrast.index_add_(0, chosen_2N, from_chosen.flatten(0, 1), alpha=-1)

    return attach_whole_gradients(value, (anchors, by_anchor), (contrast, by_contrast))


class _EuclideanGap:
    """Distance to the positive minus distance to the negative, and its slope by the rows.

    ``chosen`` holds the positive and the negative of each anchor, (2, N, D).
    """

    def __init__(self, anchors: Tensor, chosen: Tensor) -> None:
        self._difference = anchors - chosen
        self._distance_2N = torch.linalg.vector_norm(self._difference, dim=2)
        self.gap = self._distance_2N[0] - self._distance_2N[1]

    def gradients(self, slope_N: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by the anchors, and by the chosen rows (negated); overwrites the differences.

        The slope of |a - b| by a is (a - b) / |a - b|, and 0 where the rows coincide: there the
        distance is taken as infinite.
        """
        weight_2N = torch.stack((slope_N, -slope_N))
        weight_2N /= F.threshold(self._distance_2N, 0.0, math.inf)
        terms = self._difference.mul_(weight_2N[:, :, None])

        return terms[0] + terms[1], terms


class _CosineGap:
    """Distance to the positive minus distance to the negative, for cosines of unit rows.

    ``chosen`` holds the positive and the negative of each anchor, (2, N, D).
    """

    def __init__(self, anchors: Tensor, chosen: Tensor) -> None:
        self._anchors = anchors
        self._from_positive_to_negative = chosen[1] - chosen[0]
        self.gap = (anchors * self._from_positive_to_negative).sum(dim=1)

    def gradients(self, slope_N: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by the anchors, and by the chosen rows (negated)."""
        by_anchor = self._from_positive_to_negative.mul_(slope_N[:, None])
        weighted_anchors = self._anchors * slope_N[:, None]
        return by_anchor, torch.stack((weighted_anchors, -weighted_anchors))


def _hardest_pairs(
    anchors: Tensor,
    contrast: Tensor | None,
    labels: Tensor,
    contrast_labels: Tensor | None,
    *,
    euclidean: bool,
) -> HardestPairs:
    column_labels = labels if contrast_labels is None else contrast_labels
    anchors, columns, offset, factor = _ranking_terms(anchors, contrast, euclidean=euclidean)
    blocks = []

    block_size = anchors_per_block(columns.shape[0])
    for start in range(0, anchors.shape[0], block_size):
        block = slice(start, start + block_size)
        distance_BM = torch.addmm(offset, anchors[block], columns.T, alpha=factor)
        same_BM = labels[block, None] == column_labels

        nearest = distance_BM.masked_fill(same_BM, math.inf).min(dim=1)
        distance_BM = torch.where(same_BM, distance_BM, -math.inf)

        # An anchor is not its own positive.
        if contrast is None:
            distance_BM.diagonal(start).fill_(-math.inf)
        farthest = distance_BM.max(dim=1)

        # NaN is valid: a broken row must show in the loss.
        valid_B = (farthest.values != -math.inf) & (nearest.values != math.inf)
        blocks.append(HardestPairs(farthest.indices, nearest.indices, valid_B))

    if len(blocks) == 1:
        return blocks[0]

    farthest_N, nearest_N, valid_N = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return HardestPairs(farthest_N, nearest_N, valid_N)


def _ranking_terms(
    anchors: Tensor, contrast: Tensor | None, *, euclidean: bool
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Anchors, columns, offset and factor of a matrix that ranks the pairs of each row.

    The matrix is ``offset + factor * anchors @ columns.T``. For the Euclidean distance this is
    |a - b|^2 without |a|^2, which decides nothing within a row.
    """
    if not euclidean:
        columns = anchors if contrast is None else contrast
        return anchors, columns, anchors.new_zeros(()), -1

    # A common offset costs digits.
    mean = anchors.mean(dim=0)
    anchors = anchors - mean
    columns = anchors if contrast is None else contrast - mean

    return anchors, columns, columns.square().sum(dim=1), -2


def largest_number_of_positives(labels: Tensor, contrast_labels: Tensor | None) -> int:
    """Largest number of positives of any anchor.

    Waits for the device. In a compiled graph, which cannot wait, it is the number of columns.
    """
    column_labels = labels if contrast_labels is None else contrast_labels
    if torch.compiler.is_compiling() or labels.numel() == 0:
        return column_labels.shape[0]

    ordered = column_labels.long().sort().values
    anchor_labels = labels.long()
    first = torch.searchsorted(ordered, anchor_labels)
    last = torch.searchsorted(ordered, anchor_labels, right=True)
    largest = int((last - first).max())

    # In one modality an anchor is not its own positive.
    return largest - 1 if contrast_labels is None else largest


def semi_hard_rule(
    distance_BM: Tensor,
    positive_BM: Tensor,
    negative_BM: Tensor,
    *,
    margin: float | None,
    only_violated: bool,
    max_positives: int,
) -> BlockLoss:
    """For each positive, the nearest negative that is farther away, if it is within the margin."""
    positives = distance_BM.masked_fill(~positive_BM, -math.inf).topk(max_positives, dim=1)
    negative_distance_BM = distance_BM.masked_fill(~negative_BM, math.inf)
    total, count, slope_BM = _empty_loss(distance_BM)

    # One positive of every anchor at a time.
    for rank in range(max_positives):
        positive_distance_B1 = positives.values[:, rank, None]
        positive_column_B1 = positives.indices[:, rank, None]

        too_near_BM = negative_distance_BM <= positive_distance_B1
        farther_BM = negative_distance_BM.masked_fill(too_near_BM, math.inf)
        nearest = farther_BM.min(dim=1, keepdim=True)
        gap_B1 = positive_distance_B1 - nearest.values

        # NaN counts as mined: a broken row must show in the loss.
        mined_B1 = (positive_distance_B1 != -math.inf) & (nearest.values != math.inf)
        if margin is not None:
            mined_B1 &= ~(gap_B1 < -margin)

        loss_B1, pull_B1 = _hinge(torch.where(mined_B1, gap_B1, -math.inf), margin)
        counted_B1 = loss_B1 > 0 if only_violated else mined_B1
        total = total + loss_B1.sum()
        count = count + counted_B1.sum()

        slope_BM.scatter_add_(1, positive_column_B1, pull_B1)
        slope_BM.scatter_add_(1, nearest.indices, -pull_B1)

    return BlockLoss(total, count, slope_BM)


def all_triplets_rule(
    distance_BM: Tensor,
    positive_BM: Tensor,
    negative_BM: Tensor,
    *,
    margin: float | None,
    only_violated: bool,
    max_positives: int,
) -> BlockLoss:
    """Every positive of an anchor with every negative."""
    positives = distance_BM.masked_fill(~positive_BM, -math.inf).topk(max_positives, dim=1)
    negative_distance_BM = distance_BM.masked_fill(~negative_BM, math.inf)
    total, count, slope_BM = _empty_loss(distance_BM)

    # One positive of every anchor at a time.
    for rank in range(max_positives):
        positive_distance_B1 = positives.values[:, rank, None]
        positive_column_B1 = positives.indices[:, rank, None]

        loss_BM, pull_BM = _hinge(positive_distance_B1 - negative_distance_BM, margin)
        total = total + loss_BM.sum()
        if only_violated:
            count = count + (loss_BM > 0).sum()

        slope_BM.sub_(pull_BM)
        slope_BM.scatter_add_(1, positive_column_B1, pull_BM.sum(dim=1, keepdim=True))

    if not only_violated:
        count = (positive_BM.sum(dim=1) * negative_BM.sum(dim=1)).sum()

    return BlockLoss(total, count, slope_BM)


def _empty_loss(distance_BM: Tensor) -> BlockLoss:
    zero = distance_BM.new_zeros(())
    return BlockLoss(zero, zero.long(), torch.zeros_like(distance_BM))


def _hinge(gap: Tensor, margin: float | None) -> tuple[Tensor, Tensor]:
    """Loss of a gap and its slope; a gap of -inf is no triplet and costs nothing."""
    if margin is None:
        return F.softplus(gap), gap.sigmoid()
    loss = F.relu(gap + margin)
    return loss, loss.sign()
