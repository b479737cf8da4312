"""Weighted triplet loss (AGW): every positive and negative counts, and the hard ones count most."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import BlockLoss, anchorwise_loss
from clipreid_kit.losses._engine.contrast_set import (
    Distance,
    distances_of_pairs,
    masks_of_pairs,
)


def weighted_triplet_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    distance: Distance = "euclidean",
) -> Float[Tensor, ""]:
    """The formula of :func:`weighted_triplet_loss` in plain autograd.

    The whole (N, M) matrix is in memory.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
        >>> weighted_triplet_definition(rows, torch.tensor([0, 0, 1, 1]))
        tensor(1.1240)
    """
    distance_NM = distances_of_pairs(embeddings, contrast, distance)
    positive_NM, negative_NM = masks_of_pairs(labels, contrast_labels)
    valid_N = positive_NM.any(dim=1) & negative_NM.any(dim=1)

    pull_NM = distance_NM.masked_fill(~positive_NM, -torch.inf)[valid_N].softmax(dim=1)
    push_NM = (-distance_NM).masked_fill(~negative_NM, -torch.inf)[valid_N].softmax(dim=1)
    distance_NM = distance_NM[valid_N]
    gap_N = (pull_NM * distance_NM).sum(dim=1) - (push_NM * distance_NM).sum(dim=1)

    return F.softplus(gap_N).sum() / valid_N.sum().clamp(min=1)


def weighted_triplet_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    distance: Distance = "euclidean",
) -> Float[Tensor, ""]:
    r"""Weighted triplet loss: the weighted mean positive should be nearer than the mean negative.

    Use it where batch-hard mining is too harsh (a wrong label is the hardest positive of all its
    siblings) and no margin should be chosen. Leave out ``contrast`` for one modality; pass the
    texts for image against text.

    .. math::
        \ell_i = \ln\Big(1 + \exp\big(
            \sum_{p \in P(i)} w^p_{ip} d_{ip} - \sum_{n \in N(i)} w^n_{in} d_{in}\big)\Big),
        \quad w^p_{ip} = \frac{e^{d_{ip}}}{\sum_{k \in P(i)} e^{d_{ik}}},
        \quad w^n_{in} = \frac{e^{-d_{in}}}{\sum_{k \in N(i)} e^{-d_{ik}}}

    Args:
        embeddings: Anchors; used unchanged for ``distance="euclidean"``, normalised for
            ``"cosine"``.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an
            identity.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings``
            itself, and then (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        distance: ``"euclidean"``, in the units of the embeddings, or ``"cosine"``, 1 - cosine in
            [0, 2]. It also sets how sharp the weights are: with long rows they single out the
            hardest pairs, with unit rows they are nearly uniform.

    Returns:
        Mean over the anchors that have a positive and a negative. If none has (one row, one
        identity, no positives), zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given,
            or ``distance`` is neither of the two.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
        >>> # the gap of every row is 1 - 1 / (1 + e) = 0.7311, and ln(1 + e^0.7311) is the loss
        >>> weighted_triplet_loss(rows, torch.tensor([0, 0, 1, 1]))
        tensor(1.1240)

    Relations:
        Equals :func:`weighted_triplet_definition`, the formula in a few lines. With one positive
        and one negative for every anchor it is :func:`triplet_loss` with a soft margin.

    Note:
        The gradient passes through the weights, as in the formula. The code of AGW and fast-reid
        counts the anchor, at distance 0, among its own positives; here it does not count, as in the
        paper.

    References:
        Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2021, eq.
        8 and 9.
    """
    owner = "weighted_triplet_loss"
    check_choice(owner, "distance", distance, ("euclidean", "cosine"))

    return anchorwise_loss(
        owner, embeddings, labels, contrast, contrast_labels, _weighted_triplet_rule, distance
    )


def _weighted_triplet_rule(
    distance_BM: Tensor, positive_BM: Tensor, negative_BM: Tensor
) -> BlockLoss:
    valid_B = positive_BM.any(dim=1) & negative_BM.any(dim=1)
    pull_BM = distance_BM.masked_fill(~positive_BM, -torch.inf).softmax(dim=1)
    push_BM = distance_BM.masked_fill(~negative_BM, torch.inf).neg_().softmax(dim=1)

    mean_positive_B1 = (pull_BM * distance_BM).sum(dim=1, keepdim=True)
    mean_negative_B1 = (push_BM * distance_BM).sum(dim=1, keepdim=True)
    gap_B1 = mean_positive_B1 - mean_negative_B1
    loss_B = torch.where(valid_B, F.softplus(gap_B1).squeeze(1), 0.0)

    # The slope of sum_k w_k d_k by d_j is w_j (1 + d_j - sum) where the weights rise with d, and
    # w_j (1 - d_j + sum) where they fall.
    slope_BM = pull_BM.mul_(distance_BM - (mean_positive_B1 - 1))
    slope_BM.add_(push_BM.mul_(distance_BM - (mean_negative_B1 + 1)))
    slope_BM.mul_(gap_B1.sigmoid())
    slope_BM = torch.where(valid_B[:, None], slope_BM, 0.0)

    return BlockLoss(loss_B.sum(), valid_B.sum(), slope_BM)


class WeightedTripletLoss(nn.Module):
    """Module of :func:`weighted_triplet_loss`; it holds the options and has no parameters.

    Args:
        distance: ``"euclidean"`` on the unchanged embeddings, or ``"cosine"``.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If ``distance`` is neither of the two.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
        >>> WeightedTripletLoss()(rows, torch.tensor([0, 0, 1, 1]))
        tensor(1.1240)
    """

    def __init__(self, *, distance: Distance = "euclidean", distributed: bool = False) -> None:
        super().__init__()
        check_choice("WeightedTripletLoss", "distance", distance, ("euclidean", "cosine"))
        self.distance: Distance = distance
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute :func:`weighted_triplet_loss`."""
        sides: tuple[Any, ...] = (embeddings, labels, contrast, contrast_labels)
        if self.distributed:
            sides = gather_batch("WeightedTripletLoss", *sides, options=(self.extra_repr(),))
        return weighted_triplet_loss(*sides, distance=self.distance)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return f"distance={self.distance!r}, distributed={self.distributed}"
