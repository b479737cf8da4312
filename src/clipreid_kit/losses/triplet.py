"""Triplet loss with in-batch mining: one modality, or image against text."""

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_choice
from clipreid_kit.losses._anchorwise import (
    anchorwise_loss,
    check_sides,
    gather_sides,
    nothing,
    prepare,
)
from clipreid_kit.losses._triplets import Hardest, every, most_positives, semi_hard

Mining = Literal["hardest", "semi_hard", "all"]
Distance = Literal["euclidean", "cosine"]
Average = Literal["mined", "violated"]


def triplet_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    margin: float | None = 0.3,
    mining: Mining = "hardest",
    distance: Distance = "euclidean",
    average: Average | None = None,
) -> Float[Tensor, ""]:
    r"""Triplet loss: an anchor's positive shall be nearer than its negative, by a margin.

    Leave out ``contrast`` for one modality. For image against text pass the texts as ``contrast``; call it a second
    time with the two swapped for text against image. With one text for each image and labels that all differ, row i
    of both is the true pair, and the loss is the mean of
    :math:`\max(0, d(v_i, t_i) - \min_{j \ne i} d(v_i, t_j) + m)`.

    .. math:: \ell = \max(0,\; d(a, p) - d(a, n) + m) \quad\text{or, with a soft margin,}\quad
        \ell = \ln(1 + e^{d(a, p) - d(a, n)})

    Args:
        embeddings: Anchors; used as they are for ``distance="euclidean"`` (CLIP-ReID does not normalise), normalised
            for ``"cosine"``.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an identity: see
            ``PKSampler``.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings`` itself, and then
            (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        margin: :math:`m \ge 0` in units of the distance (0.3 is usual); ``None`` is the soft margin.
        mining: ``"hardest"`` takes each anchor's farthest positive and nearest negative; ``"semi_hard"`` takes,
            for every (anchor, positive), the nearest negative that is farther than the positive and within the
            margin of it; ``"all"`` takes every triplet.
        distance: ``"euclidean"``, in the units of the embeddings, or ``"cosine"``, 1 - cosine in [0, 2].
        average: Divide by the number of ``"mined"`` triplets, or of ``"violated"`` ones: those with a loss above 0,
            which with a soft margin are all. ``None`` means ``"violated"`` for ``mining="all"``, else ``"mined"``.

    Returns:
        Mean over the mined or the violated triplets. Anchors without a positive or without a negative take no part;
        with no triplet at all (one row, one identity, no positives) it is zero and still connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given, or an option is out
            of its range.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
        >>> triplet_loss(rows, torch.tensor([0, 0, 1, 1]), margin=1.5)  # only row 1 is violated: 1 - 2 + 1.5
        tensor(0.1250)
        >>> triplet_loss(rows, torch.tensor([0, 0, 1, 1]), margin=1.5, average="violated")
        tensor(0.5000)

    Relations:
        :func:`weighted_triplet_loss` takes a weighted mean of all positives and negatives instead of the hardest.

    Note:
        The matrix of all pairs is computed in blocks and never held. With ``mining="hardest"`` it only chooses the
        pairs: their distances come from the differences of the rows, which keep the digits that the matrix loses for
        near duplicates. The other minings use the matrix itself, take a step for every positive of an anchor, and
        read the largest number of those from the labels, which waits for the device; a compiled graph cannot, and
        takes a step for every column: compile them for batches of a few hundred rows at most.

    References:
        Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017, eq. 5 to 7. Schroff et
        al., FaceNet, CVPR 2015, section 3.2 (semi-hard).
    """
    check_sides("triplet_loss", embeddings, labels, contrast, contrast_labels)
    _check_options("triplet_loss", margin, mining, distance, average)
    violated = mining == "all" if average is None else average == "violated"
    violated = violated and margin is not None  # a soft margin is violated by every triplet
    if mining == "hardest":
        with torch.autocast(embeddings.device.type, enabled=False):
            anchors, others = prepare(embeddings, contrast, distance)
            if anchors.shape[0] == 0 or (others is not None and others.shape[0] == 0):
                return nothing(anchors, others)
            loss: Tensor = Hardest.apply(
                anchors, others, labels, contrast_labels, margin, distance == "euclidean", violated
            )
            return loss
    slots = most_positives(labels, contrast_labels)
    rule = partial(
        every if mining == "all" else semi_hard, margin=margin, violated=violated, slots=slots
    )
    return anchorwise_loss(embeddings, labels, contrast, contrast_labels, rule, distance)


def _check_options(
    owner: str, margin: float | None, mining: str, distance: str, average: str | None
) -> None:
    if margin is not None:
        check_at_least(owner, "margin", margin, 0, " (None is the soft margin)")
    check_choice(owner, "mining", mining, ("hardest", "semi_hard", "all"))
    check_choice(owner, "distance", distance, ("euclidean", "cosine"))
    if average is not None:
        check_choice(owner, "average", average, ("mined", "violated"))


class TripletLoss(nn.Module):
    """:func:`triplet_loss` with its options held; no parameters.

    Args:
        margin: At least 0, in units of the distance; ``None`` is the soft margin.
        mining: ``"hardest"``, ``"semi_hard"`` or ``"all"``.
        distance: ``"euclidean"`` on the embeddings as they are, or ``"cosine"``.
        average: Over the ``"mined"`` or the ``"violated"`` triplets; ``None`` means ``"violated"`` for
            ``mining="all"``, else ``"mined"``.
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
        average: Average | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options("TripletLoss", margin, mining, distance, average)
        self.margin = margin
        self.mining: Mining = mining
        self.distance: Distance = distance
        self.average: Average | None = average
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """See :func:`triplet_loss`."""
        sides = (embeddings, labels, contrast, contrast_labels)
        return triplet_loss(
            *(gather_sides(*sides) if self.distributed else sides),
            margin=self.margin,
            mining=self.mining,
            distance=self.distance,
            average=self.average,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return (
            f"margin={self.margin}, mining={self.mining!r}, distance={self.distance!r}, average={self.average!r}, "
            f"distributed={self.distributed}"
        )
