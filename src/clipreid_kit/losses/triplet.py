"""Triplet loss with in-batch mining: one modality, or image against text."""

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_choice
from clipreid_kit.distances import at_least_float32, l2_normalize, to_common_precision
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import anchorwise_loss
from clipreid_kit.losses._engine.argument_checks import check_contrast
from clipreid_kit.losses._engine.attached_gradient import without_autocast
from clipreid_kit.losses._engine.contrast_set import (
    Distance,
    connected_zero,
    distances_of_pairs,
    masks_of_pairs,
)
from clipreid_kit.losses._engine.triplet_mining import (
    all_triplets_rule,
    hardest_triplets,
    largest_number_of_positives,
    semi_hard_rule,
)

Mining = Literal["hardest", "semi_hard", "all"]
Average = Literal["mined", "violated"]


def triplet_definition(
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
    """The formula of :func:`triplet_loss` in plain autograd, with all (N, M, M) triplets in memory.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
        >>> triplet_definition(rows, torch.tensor([0, 0, 1, 1]), margin=1.5)
        tensor(0.1250)
    """
    distance_NM = distances_of_pairs(embeddings, contrast, distance)
    positive_NM, negative_NM = masks_of_pairs(labels, contrast_labels)

    # Entry (a, p, n): distance of anchor a to positive p, less its distance to negative n.
    triplet_NMM = positive_NM[:, :, None] & negative_NM[:, None, :]
    gap_NMM = distance_NM[:, :, None] - distance_NM[:, None, :]

    # Semi-hard: the negative is farther than the positive, and within the margin of it.
    if mining == "semi_hard":
        triplet_NMM = triplet_NMM & (gap_NMM < 0)
        if margin is not None:
            triplet_NMM = triplet_NMM & (gap_NMM >= -margin)

    gap = gap_NMM.masked_fill(~triplet_NMM, -torch.inf)
    if mining == "hardest":
        gap = gap.amax(dim=(1, 2))
    elif mining == "semi_hard":
        gap = gap.amax(dim=2)

    gap = gap[gap > -torch.inf]
    loss = F.softplus(gap) if margin is None else (gap + margin).clamp(min=0)

    if average is None:
        average = "violated" if mining == "all" else "mined"
    num_losses = (loss > 0).sum() if average == "violated" else gap.new_tensor(len(gap))
    return loss.sum() / num_losses.clamp(min=1)


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
    r"""Triplet loss: an anchor's positive should be nearer than its negative, by a margin.

    Leave out ``contrast`` for one modality. For image against text pass the texts as ``contrast``,
    and call it a second time with the two swapped for text against image. With one text for each
    image and all labels different, row i of both is the true pair, and the loss is the mean of
    :math:`\max(0, d(v_i, t_i) - \min_{j \ne i} d(v_i, t_j) + m)`.

    .. math:: \ell = \max(0,\; d(a, p) - d(a, n) + m) \quad\text{or, with a soft margin,}\quad
        \ell = \ln(1 + e^{d(a, p) - d(a, n)})

    Args:
        embeddings: Anchors; used unchanged for ``distance="euclidean"`` (CLIP-ReID does not
            normalise), normalised for ``"cosine"``.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an
            identity: see ``PKSampler``.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings``
            itself, and then (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        margin: :math:`m \ge 0` in units of the distance (0.3 is usual); ``None`` is the soft
            margin.
        mining: ``"hardest"`` takes each anchor's farthest positive and nearest negative.
            ``"semi_hard"`` takes, for every (anchor, positive), the nearest negative that is
            farther than the positive and within the margin of it. ``"all"`` takes every triplet.
        distance: ``"euclidean"``, in the units of the embeddings, or ``"cosine"``, 1 - cosine in
            [0, 2].
        average: Divide by the number of ``"mined"`` triplets or of ``"violated"`` ones. A triplet
            is violated if its loss is above 0, and with a soft margin every one is. ``None`` means
            ``"violated"`` for ``mining="all"``, else ``"mined"``.

    Returns:
        Mean over the mined or the violated triplets. Anchors without a positive or without a
        negative are left out. Without any triplet (one row, one identity, no positives) it is zero,
        connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given,
            or an option is out of its range.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> triplet_loss(rows, labels, margin=1.5)  # only row 1 is violated: 1 - 2 + 1.5
        tensor(0.1250)
        >>> triplet_loss(rows, labels, margin=1.5, average="violated")
        tensor(0.5000)

    Relations:
        Equals :func:`triplet_definition`, the formula in a few lines. :func:`weighted_triplet_loss`
        takes a weighted mean of all positives and negatives instead of the hardest.

    Note:
        The matrix of all pairs is computed in blocks and never held. With ``mining="hardest"`` it
        only chooses the pairs: their distances come from the differences of the rows, which keep
        the digits that the matrix loses for near duplicates. The other kinds of mining use the
        matrix itself and take a step for every positive of an anchor. They read the largest number
        of positives from the labels, which waits for the device. A compiled graph cannot wait, and
        takes a step for every
        column: compile them for batches of a few hundred rows at most.

    References:
        Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017, eq. 5 to
        7. Schroff et al., FaceNet, CVPR 2015, section 3.2 (semi-hard).
    """
    _check_options("triplet_loss", margin, mining, distance, average)

    if average is None:
        average = "violated" if mining == "all" else "mined"
    # Every triplet violates a soft margin.
    only_violated = average == "violated" and margin is not None

    if mining == "hardest":
        return _hardest_triplet_loss(
            embeddings, labels, contrast, contrast_labels, margin, distance, only_violated
        )

    check_contrast("triplet_loss", embeddings, labels, contrast, contrast_labels)
    rule = partial(
        all_triplets_rule if mining == "all" else semi_hard_rule,
        margin=margin,
        only_violated=only_violated,
        max_positives=largest_number_of_positives(labels, contrast_labels),
    )
    return anchorwise_loss(
        "triplet_loss", embeddings, labels, contrast, contrast_labels, rule, distance
    )


def _hardest_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    contrast: Tensor | None,
    contrast_labels: Tensor | None,
    margin: float | None,
    distance: Distance,
    only_violated: bool,
) -> Tensor:
    check_contrast("triplet_loss", embeddings, labels, contrast, contrast_labels)

    with without_autocast(embeddings.device):
        prepare = at_least_float32 if distance == "euclidean" else l2_normalize
        anchors = prepare(embeddings)
        if contrast is not None:
            anchors, contrast = to_common_precision(anchors, prepare(contrast))

        if anchors.shape[0] == 0 or (contrast is not None and contrast.shape[0] == 0):
            return connected_zero(anchors, contrast)

        return hardest_triplets(
            anchors,
            contrast,
            labels,
            contrast_labels,
            margin=margin,
            euclidean=distance == "euclidean",
            only_violated=only_violated,
        )


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
    """Module of :func:`triplet_loss`; it holds the options and has no parameters.

    Args:
        margin: At least 0, in units of the distance; ``None`` is the soft margin.
        mining: ``"hardest"``, ``"semi_hard"`` or ``"all"``.
        distance: ``"euclidean"`` on the unchanged embeddings, or ``"cosine"``.
        average: Over the ``"mined"`` or the ``"violated"`` triplets; ``None`` means ``"violated"``
            for ``mining="all"``, else ``"mined"``.
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
        """Compute :func:`triplet_loss`."""
        sides: tuple[Any, ...] = (embeddings, labels, contrast, contrast_labels)
        if self.distributed:
            sides = gather_batch("TripletLoss", *sides, options=(self.extra_repr(),))

        return triplet_loss(
            *sides,
            margin=self.margin,
            mining=self.mining,
            distance=self.distance,
            average=self.average,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"margin={self.margin}, mining={self.mining!r}, distance={self.distance!r}, "
            f"average={self.average!r}, distributed={self.distributed}"
        )
