"""Triplet loss with in-batch mining."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_choice, check_embeddings, check_labels
from clipreid_kit.distances import (
    dot_product,
    euclidean_distance,
    exact,
    l2_normalize,
    squared_euclidean_distance,
)
from clipreid_kit.distributed import gather

Mining = Literal["hardest", "semi_hard", "all"]
Distance = Literal["euclidean", "cosine"]


def triplet_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    *,
    margin: float | None = 0.3,
    mining: Mining = "hardest",
    distance: Distance = "euclidean",
) -> Float[Tensor, ""]:
    r"""Triplet loss: an anchor's positive shall be nearer than its negative, by a margin.

    .. math:: \ell = \max(0,\; d(a, p) - d(a, n) + m) \quad\text{or, with a soft margin,}\quad
        \ell = \ln(1 + e^{d(a, p) - d(a, n)})

    Args:
        embeddings: Rows; used as they are for ``distance="euclidean"`` (CLIP-ReID does not normalise), normalised
            for ``"cosine"``.
        labels: Identity of each row. Every batch should hold several rows of an identity: see ``PKSampler``.
        margin: :math:`m \ge 0` in units of the distance (0.3 is usual); ``None`` is the soft margin.
        mining: ``"hardest"`` takes each anchor's farthest positive and nearest negative; ``"semi_hard"`` takes,
            for every (anchor, positive), the nearest negative that is farther than the positive; ``"all"`` takes
            every triplet and averages those with a loss above 0 (hinge) or all (soft margin, O(n^3) memory).
        distance: ``"euclidean"``, in the units of the embeddings, or ``"cosine"``, 1 - cosine in [0, 2].

    Returns:
        Mean over the mined triplets. Anchors without a positive or without a negative take no part; with no triplet
        at all (one row, one identity, no positives) it is zero and still connected to the graph.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
        >>> triplet_loss(rows, torch.tensor([0, 0, 1, 1]), margin=1.5)  # only row 1 is violated: 1 - 2 + 1.5
        tensor(0.1250)

    Note:
        With ``mining="hardest"`` pairs are chosen on a matrix of squared distances without gradient, and only the
        chosen distances are computed with it, from the difference of the rows, which keeps the digits that the matrix
        loses for near duplicates. The other minings use the matrix itself.

    References:
        Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017, eq. 5 and 6. Schroff et
        al., FaceNet, CVPR 2015, section 3.2 (semi-hard).
    """
    check_embeddings("triplet_loss", "embeddings", embeddings)
    check_labels("triplet_loss", "labels", labels, embeddings.shape[0])
    if margin is not None:
        check_at_least("triplet_loss", "margin", margin, 0, " (None is the soft margin)")
    check_choice("triplet_loss", "mining", mining, ("hardest", "semi_hard", "all"))
    check_choice("triplet_loss", "distance", distance, ("euclidean", "cosine"))
    if embeddings.shape[0] == 0:
        return exact(embeddings).sum() * 0.0
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = l2_normalize(embeddings) if distance == "cosine" else exact(embeddings)
        same_NN = labels[:, None] == labels[None, :]
        self_NN = torch.eye(rows.shape[0], dtype=torch.bool, device=rows.device)
        positive_NN = same_NN & ~self_NN
        if mining == "hardest":
            return _hardest(rows, positive_NN, ~same_NN, margin, distance)
        distance_NN = 1 - dot_product(rows, rows) if distance == "cosine" else euclidean_distance(rows, rows)
        if mining == "semi_hard":
            return _semi_hard(distance_NN, positive_NN, ~same_NN, margin)
        return _all(distance_NN, positive_NN, ~same_NN, margin)


def _violation(gap: Tensor, margin: float | None) -> Tensor:
    return F.softplus(gap) if margin is None else F.relu(gap + margin)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def _hardest(
    rows: Tensor,
    positive_NN: Bool[Tensor, "n n"],
    negative_NN: Bool[Tensor, "n n"],
    margin: float | None,
    distance: Distance,
) -> Tensor:
    with torch.no_grad():
        far_NN = -dot_product(rows, rows) if distance == "cosine" else squared_euclidean_distance(rows, rows)
        farthest_N = far_NN.masked_fill(~positive_NN, -math.inf).argmax(dim=1)
        nearest_N = far_NN.masked_fill(~negative_NN, math.inf).argmin(dim=1)
        valid_N = positive_NN.any(dim=1) & negative_NN.any(dim=1)
    if distance == "cosine":
        gap_N = (rows * (rows[nearest_N] - rows[farthest_N])).sum(dim=1)
    else:
        to_positive = torch.linalg.vector_norm(rows - rows[farthest_N], dim=1)
        gap_N = to_positive - torch.linalg.vector_norm(rows - rows[nearest_N], dim=1)
    return _masked_mean(_violation(gap_N, margin), valid_N)


def _semi_hard(distance_NN: Tensor, positive_NN: Tensor, negative_NN: Tensor, margin: float | None) -> Tensor:
    with torch.no_grad():
        sorted_NN, order_NN = distance_NN.masked_fill(~negative_NN, math.inf).sort(dim=1)
        place_NN = torch.searchsorted(sorted_NN, distance_NN.contiguous(), right=True)
        place_NN = place_NN.clamp(max=distance_NN.shape[1] - 1)
        bound = math.inf if margin is None else margin
        gap_NN = sorted_NN.gather(1, place_NN) - distance_NN
        mined_NN = positive_NN & (gap_NN > 0) & gap_NN.isfinite() & (gap_NN <= bound)
        chosen_NN = order_NN.gather(1, place_NN)
    return _masked_mean(_violation(distance_NN - distance_NN.gather(1, chosen_NN), margin), mined_NN)


def _all(distance_NN: Tensor, positive_NN: Tensor, negative_NN: Tensor, margin: float | None) -> Tensor:
    if margin is None:
        triplets = positive_NN[:, :, None] & negative_NN[:, None, :]
        return _masked_mean(F.softplus(distance_NN[:, :, None] - distance_NN[:, None, :]), triplets)
    # sum over n of max(0, d_ap + m - d_an) needs only how many negatives lie below d_ap + m, and their sum: sorting
    # the negatives of an anchor and a running sum give both, in O(n^2 log n) and without the n^3 triplets
    sorted_NN, order_NN = distance_NN.detach().masked_fill(~negative_NN, math.inf).sort(dim=1)
    below_NN = torch.searchsorted(sorted_NN, (distance_NN.detach() + margin).contiguous())
    values_NN = torch.where(sorted_NN.isfinite(), distance_NN.gather(1, order_NN), 0.0)
    running_NN = F.pad(values_NN.cumsum(dim=1), (1, 0))
    sum_NN = below_NN * (distance_NN + margin) - running_NN.gather(1, below_NN)
    count = torch.where(positive_NN, below_NN, 0).sum()
    return torch.where(positive_NN, sum_NN, 0.0).sum() / count.clamp(min=1)


class TripletLoss(nn.Module):
    """:func:`triplet_loss` with its options held; no parameters.

    Args:
        margin: At least 0, in units of the distance; ``None`` is the soft margin.
        mining: ``"hardest"``, ``"semi_hard"`` or ``"all"``.
        distance: ``"euclidean"`` on the embeddings as they are, or ``"cosine"``.
        distributed: Gather the rows of all ranks first, and mine in the whole batch.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
        >>> TripletLoss(margin=1.5)(rows, torch.tensor([0, 0, 1, 1]))
        tensor(0.1250)
    """

    def __init__(
        self,
        margin: float | None = 0.3,
        *,
        mining: Mining = "hardest",
        distance: Distance = "euclidean",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        if margin is not None:
            check_at_least("TripletLoss", "margin", margin, 0, " (None is the soft margin)")
        check_choice("TripletLoss", "mining", mining, ("hardest", "semi_hard", "all"))
        check_choice("TripletLoss", "distance", distance, ("euclidean", "cosine"))
        self.margin = margin
        self.mining: Mining = mining
        self.distance: Distance = distance
        self.distributed = distributed

    def forward(self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]) -> Float[Tensor, ""]:
        """See :func:`triplet_loss`."""
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        return triplet_loss(embeddings, labels, margin=self.margin, mining=self.mining, distance=self.distance)

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"margin={self.margin}, mining={self.mining!r}, distance={self.distance!r}"
