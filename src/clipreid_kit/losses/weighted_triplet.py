"""Weighted triplet loss (AGW): every positive and negative counts, the hard ones most."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice
from clipreid_kit.losses._anchorwise import anchorwise_loss, check_sides, gather_sides

Distance = Literal["euclidean", "cosine"]


def weighted_triplet_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    distance: Distance = "euclidean",
) -> Float[Tensor, ""]:
    r"""Weighted triplet loss: the weighted mean positive shall be nearer than the weighted mean negative.

    Use it where batch-hard mining is too harsh (a wrong label is the hardest positive of all its siblings) and no
    margin shall be chosen. Leave out ``contrast`` for one modality; pass the texts for image against text.

    .. math::
        \ell_i = \ln\Big(1 + \exp\big(\sum_{p \in P(i)} w^p_{ip} d_{ip} - \sum_{n \in N(i)} w^n_{in} d_{in}\big)\Big),
        \quad w^p_{ip} = \frac{e^{d_{ip}}}{\sum_{k \in P(i)} e^{d_{ik}}},
        \quad w^n_{in} = \frac{e^{-d_{in}}}{\sum_{k \in N(i)} e^{-d_{ik}}}

    Args:
        embeddings: Anchors; used as they are for ``distance="euclidean"``, normalised for ``"cosine"``.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an identity.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings`` itself, and then
            (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        distance: ``"euclidean"``, in the units of the embeddings, or ``"cosine"``, 1 - cosine in [0, 2]. It also sets
            how sharp the weights are: with long rows they single out the hardest pairs, with unit rows they are
            nearly even.

    Returns:
        Mean over the anchors that have a positive and a negative. If none has (one row, one identity, no positives),
        zero, still connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given, or ``distance`` is
            neither of the two.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
        >>> weighted_triplet_loss(rows, torch.tensor([0, 0, 1, 1]))  # 1 - 1 / (1 + e) for every row, ln(1 + e^0.7311)
        tensor(1.1240)

    Relations:
        With one positive and one negative for every anchor this is :func:`triplet_loss` with a soft margin.

    Note:
        The gradient passes through the weights, as the formula says. The code of AGW and fast-reid counts the anchor,
        at distance 0, among its own positives; here it is not, as the paper says.

    References:
        Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2021, eq. 8 and 9.
    """
    check_sides("weighted_triplet_loss", embeddings, labels, contrast, contrast_labels)
    check_choice("weighted_triplet_loss", "distance", distance, ("euclidean", "cosine"))
    return anchorwise_loss(embeddings, labels, contrast, contrast_labels, _rule, distance)


def _rule(distance: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    valid = positive.any(dim=1) & negative.any(dim=1)
    pull = distance.masked_fill(~positive, -torch.inf).softmax(dim=1)
    push = distance.masked_fill(~negative, torch.inf).neg_().softmax(dim=1)
    to_positive, to_negative = (
        (pull * distance).sum(dim=1, keepdim=True),
        (push * distance).sum(dim=1, keepdim=True),
    )
    gap = to_positive - to_negative
    total = torch.where(valid, F.softplus(gap).squeeze(1), 0.0).sum()
    # d/dd_j of sum_k w_k d_k is w_j (1 + d_j - sum) where the weights rise with d, w_j (1 - d_j + sum) where they fall
    slope = pull.mul_(distance - (to_positive - 1)).add_(push.mul_(distance - (to_negative + 1)))
    return total, valid.sum(), torch.where(valid[:, None], slope.mul_(gap.sigmoid()), 0.0)


class WeightedTripletLoss(nn.Module):
    """:func:`weighted_triplet_loss` with its options held; no parameters.

    Args:
        distance: ``"euclidean"`` on the embeddings as they are, or ``"cosine"``.
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
        """See :func:`weighted_triplet_loss`."""
        sides = (embeddings, labels, contrast, contrast_labels)
        return weighted_triplet_loss(
            *(gather_sides(*sides) if self.distributed else sides), distance=self.distance
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"distance={self.distance!r}, distributed={self.distributed}"
