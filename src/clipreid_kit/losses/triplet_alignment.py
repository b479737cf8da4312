"""Triplet alignment loss (TAL): a hinge on the soft maximum of all negatives of a pair."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_positive
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import BlockLoss, logsumexp_and_softmax
from clipreid_kit.losses._engine.both_directions import both_directions_loss
from clipreid_kit.losses._engine.pair_values import (
    Reduction,
    check_image_text_pairs,
    check_reduction,
    masks_of_image_text,
    reduce_directions,
)


def triplet_alignment_definition(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    ignore: Bool[Tensor, "n m"] | None = None,
    margin: float = 0.1,
    temperature: float = 0.015,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    """The formula of :func:`triplet_alignment_loss` in plain autograd.

    The whole (N, M) matrix is in memory.

    Example:
        >>> near = torch.tensor([[1.0, 0.0], [0.8, 0.6]])  # the cosine of the negatives is 0.8
        >>> triplet_alignment_definition(near, near, margin=0.5)  # 0.5 - 1 + 0.8, twice
        tensor(0.6000)
    """
    cosine_NM = cosine_similarity(image_embeddings, text_embeddings)
    positive_NM, negative_NM = masks_of_image_text(
        len(image_embeddings), labels, text_labels, ignore, cosine_NM.device
    )

    # Image to text, then text to image.
    options = {"margin": margin, "temperature": temperature}
    image_N = _hinge(cosine_NM, positive_NM, negative_NM, **options)
    text_M = _hinge(cosine_NM.T, positive_NM.T, negative_NM.T, **options)

    return reduce_directions(
        image_N, positive_NM.any(dim=1), text_M, positive_NM.any(dim=0), reduction
    )


def _hinge(
    cosine_NM: Tensor,
    positive_NM: Tensor,
    negative_NM: Tensor,
    *,
    margin: float,
    temperature: float,
) -> Tensor:
    """Loss of every row; 0 for a row without negatives."""
    logits_NM = cosine_NM / temperature

    # The weights carry no gradient; those of a row without positives are 0.
    near_NM = logits_NM.detach().masked_fill(~positive_NM, -torch.inf)
    weight_NM = torch.where(positive_NM, near_NM.softmax(dim=1), 0.0)
    near_N = (weight_NM * cosine_NM).sum(dim=1)

    # A logsumexp over no negatives has no finite gradient.
    has_negatives_N = negative_NM.any(dim=1)
    is_left_out_NM = ~negative_NM & has_negatives_N[:, None]
    far_N = temperature * logits_NM.masked_fill(is_left_out_NM, -torch.inf).logsumexp(dim=1)

    return torch.where(has_negatives_N, (margin - near_N + far_N).clamp(min=0), 0.0 * near_N)


def triplet_alignment_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    ignore: Bool[Tensor, "n m"] | None = None,
    margin: float = 0.1,
    temperature: float = 0.015,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    r"""Triplet alignment loss (TAL): a hinge between the positives and all negatives of each row.

    Use it for text-to-image retrieval where some captions describe another image. A triplet loss
    with the hardest negative follows every wrong pair; this upper bound of it looks at all
    negatives, and needs no mining.

    .. math::
        \ell_i = \Big[ m - \sum_j \alpha_{ij} s_{ij}
            + \tau \ln \sum_{j \in N(i)} e^{s_{ij} / \tau} \Big]_+, \qquad
        \alpha_{ij} = \frac{e^{s_{ij} / \tau}}{\sum_{k \in P(i)} e^{s_{ik} / \tau}}
        \;\text{ for } j \in P(i)

    from images to texts, with the cosines :math:`s`, and the same from texts to images.

    Args:
        image_embeddings: Rows of images; L2-normalised here.
        text_embeddings: Rows of texts; L2-normalised here.
        labels: Identity of each image. ``None`` means that row i of the images belongs to row i of
            the texts, and to no other.
        text_labels: Identity of each text. ``None`` means that text i has the label of image i.
        ignore: Marks pairs (image, text) that are neither positive nor negative.
        margin: :math:`m \ge 0`, a cosine; 0.1 in the paper.
        temperature: :math:`\tau > 0` in units of cosine similarity; 0.015 in the paper. The smaller
            it is, the nearer is the loss to that of the hardest negative.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for the value of each pair, that
            of image i plus that of text i.

    Returns:
        The mean over the images plus the mean over the texts, of those that have a match; a scalar.
        With ``reduction="none"`` the values (N,), whose mean is that scalar if every row has a
        match. A row without negatives has 0. Without images or texts zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree, ``text_labels`` is given without ``labels``, the pairs of
            ``reduction="none"`` are no pairs, or an option is out of its range.

    Example:
        >>> near = torch.tensor([[1.0, 0.0], [0.8, 0.6]])  # the cosine of the negatives is 0.8
        >>> triplet_alignment_loss(near, near, margin=0.5)  # 0.5 - 1 + 0.8, twice
        tensor(0.6000)

    Relations:
        Equals :func:`triplet_alignment_definition`, the formula in a few lines. For
        :math:`\tau \to 0`, and one positive, it is :func:`triplet_loss` on cosine distances with
        the hardest negatives, both directions summed.

    Note:
        The weights :math:`\alpha` carry no gradient. The rows of a batch are averaged, where the
        authors sum. The gradient is computed with the value, block by block, and only first
        derivatives exist; with ``ignore`` or ``reduction="none"`` the definition is computed, with
        the whole matrix in memory.

    References:
        Qin et al., Noisy-Correspondence Learning for Text-to-Image Person Re-identification (RDE),
        CVPR 2024, section 3.4.
    """
    owner = "triplet_alignment_loss"
    sides = (image_embeddings, text_embeddings, labels, text_labels)
    check_image_text_pairs(owner, *sides, ignore, reduction)
    _check_options(owner, margin, temperature)

    if ignore is not None or reduction == "none":
        return triplet_alignment_definition(
            *sides, ignore=ignore, margin=margin, temperature=temperature, reduction=reduction
        )

    rule = partial(_alignment_rule, margin=margin, temperature=temperature)
    return both_directions_loss(*sides, rule)


def _check_options(owner: str, margin: float, temperature: float) -> None:
    check_at_least(owner, "margin", margin, 0)
    check_positive(owner, "temperature", temperature)


def _alignment_rule(
    cosine_BM: Tensor,
    positive_BM: Tensor,
    negative_BM: Tensor,
    *,
    margin: float,
    temperature: float,
) -> BlockLoss:
    r"""One direction. Slope of a violated row: the softmax of its negatives, minus its weights."""
    logits_BM = cosine_BM / temperature
    near_BM = logits_BM.masked_fill(~positive_BM, -torch.inf)
    far_BM = logits_BM.masked_fill_(~negative_BM, -torch.inf)
    largest_B, weight_BM = logsumexp_and_softmax(near_BM)
    far_B, softmax_BM = logsumexp_and_softmax(far_BM)

    near_B = (weight_BM * cosine_BM).sum(dim=1)
    loss_B = (margin - near_B + temperature * far_B).clamp_(min=0)
    is_valid_B = largest_B != -torch.inf
    loss_B = torch.where(is_valid_B, loss_B, 0.0)

    slope_BM = softmax_BM.sub_(weight_BM).masked_fill_((loss_B <= 0)[:, None], 0.0)
    return BlockLoss(loss_B.sum(), is_valid_B.sum(), slope_BM)


class TripletAlignmentLoss(nn.Module):
    """Module of :func:`triplet_alignment_loss` (TAL); it holds the options, without parameters.

    Args:
        margin: At least 0, a cosine.
        temperature: Above 0, in units of cosine similarity.
        reduction: ``"mean"``, or ``"none"`` for a value of each pair.
        distributed: Gather the rows of all ranks first. ``ignore`` then has a row for each image of
            this rank and a column for each text of all ranks, in their order, and
            ``reduction="none"`` returns the values of all ranks.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> near = torch.tensor([[1.0, 0.0], [0.8, 0.6]])  # the cosine of the negatives is 0.8
        >>> TripletAlignmentLoss(margin=0.5, reduction="none")(near, near)
        tensor([0.6000, 0.6000])
    """

    def __init__(
        self,
        margin: float = 0.1,
        temperature: float = 0.015,
        *,
        reduction: Reduction = "mean",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options("TripletAlignmentLoss", margin, temperature)
        check_reduction("TripletAlignmentLoss", reduction)

        self.margin = margin
        self.temperature = temperature
        self.reduction: Reduction = reduction
        self.distributed = distributed

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        text_embeddings: Float[Tensor, "m d"],
        labels: Integer[Tensor, " n"] | None = None,
        text_labels: Integer[Tensor, " m"] | None = None,
        *,
        ignore: Bool[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, " *p"]:
        """Compute :func:`triplet_alignment_loss`."""
        batch: tuple[Any, ...] = (image_embeddings, text_embeddings, labels, text_labels, ignore)
        if self.distributed:
            batch = gather_batch("TripletAlignmentLoss", *batch, options=(self.extra_repr(),))

        *sides, ignored = batch
        return triplet_alignment_loss(
            *sides,
            ignore=ignored,
            margin=self.margin,
            temperature=self.temperature,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"margin={self.margin}, temperature={self.temperature}, "
            f"reduction={self.reduction!r}, distributed={self.distributed}"
        )
