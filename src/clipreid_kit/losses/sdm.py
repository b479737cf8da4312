"""Similarity distribution matching: the softmax of the similarities against that of the labels."""

from functools import partial
from typing import Any

from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_positive
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.both_directions import both_directions_loss
from clipreid_kit.losses._engine.distribution_matching import matching_divergence, matching_rule
from clipreid_kit.losses._engine.pair_values import (
    Reduction,
    check_image_text_pairs,
    check_reduction,
    masks_of_image_text,
    reduce_directions,
)


def sdm_definition(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    ignore: Bool[Tensor, "n m"] | None = None,
    temperature: float = 0.02,
    epsilon: float = 1e-8,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    """The formula of :func:`sdm_loss` in plain autograd, with the whole (N, M) matrix in memory.

    Example:
        >>> import torch
        >>> sdm_definition(torch.eye(2), torch.eye(2), temperature=1.0)  # 4.3719 in each direction
        tensor(8.7438)
    """
    logits_NM = cosine_similarity(image_embeddings, text_embeddings) / temperature
    positive_NM, negative_NM = masks_of_image_text(
        len(image_embeddings), labels, text_labels, ignore, logits_NM.device
    )

    # Image to text, then text to image.
    image_N = matching_divergence(logits_NM, positive_NM, negative_NM, epsilon)
    text_M = matching_divergence(logits_NM.T, positive_NM.T, negative_NM.T, epsilon)

    return reduce_directions(
        image_N, positive_NM.any(dim=1), text_M, positive_NM.any(dim=0), reduction
    )


def sdm_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    ignore: Bool[Tensor, "n m"] | None = None,
    temperature: float = 0.02,
    epsilon: float = 1e-8,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    r"""Similarity distribution matching (SDM): the divergence of two distributions over the batch.

    Use it for text-to-image retrieval in batches that may hold several images or captions of an
    identity: the similarities of a row should be spread over all of its matches alike, and nowhere
    else.

    .. math::
        L = \frac{1}{N} \sum_i \sum_j p_{ij} \ln \frac{p_{ij}}{q_{ij} + \epsilon}
            + \text{the same from texts to images}, \qquad
        p_{ij} = \frac{e^{v_i \cdot t_j / \tau}}{\sum_k e^{v_i \cdot t_k / \tau}}, \quad
        q_{ij} = \frac{[y_i = y_j]}{\sum_k [y_i = y_k]}

    Args:
        image_embeddings: Rows :math:`v`; L2-normalised here.
        text_embeddings: Rows :math:`t`; L2-normalised here.
        labels: Identity of each image. ``None`` means that row i of the images belongs to row i of
            the texts, and to no other.
        text_labels: Identity of each text. ``None`` means that text i has the label of image i.
        ignore: Marks pairs (image, text) that are neither positive nor negative; they are left out
            of both distributions.
        temperature: :math:`\tau > 0` in units of cosine similarity; 0.02 in the paper.
        epsilon: :math:`\epsilon > 0`, which bounds what a wrong match costs: about
            :math:`-\ln \epsilon` for each unit of probability, 18 for 1e-8.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for the value of each pair, that
            of image i plus that of text i.

    Returns:
        The mean over the images plus the mean over the texts, of those that have a match; a scalar.
        With ``reduction="none"`` the values (N,), whose mean is that scalar if every row has a
        match; a row without one has 0. Without images or texts zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree, ``text_labels`` is given without ``labels``, the pairs of
            ``reduction="none"`` are no pairs, or an option is out of its range.

    Example:
        >>> import torch
        >>> # p = (0.731, 0.269): 0.731 ln(0.731 / 1) + 0.269 ln(0.269 / 1e-8), twice
        >>> sdm_loss(torch.eye(2), torch.eye(2), temperature=1.0)
        tensor(8.7438)

    Relations:
        Equals :func:`sdm_definition`, the formula in a few lines. With unnormalised rows on one
        side it is :func:`cmpm_loss`. With the two distributions exchanged, cross entropy instead of
        divergence, it would be :func:`supcon_loss` between images and texts: that asks for all
        matches to be likely, SDM for everything likely to be a match.

    Note:
        The gradient is computed with the value, block by block, and only first derivatives exist;
        with ``ignore`` or ``reduction="none"`` the definition is computed, with the whole matrix in
        memory.

    References:
        Jiang and Ye, Cross-Modal Implicit Relation Reasoning and Aligning for Text-to-Image Person
        Retrieval (IRRA), CVPR 2023, section 3.3.
    """
    owner = "sdm_loss"
    sides = (image_embeddings, text_embeddings, labels, text_labels)
    check_image_text_pairs(owner, *sides, ignore, reduction)
    _check_options(owner, temperature, epsilon)

    if ignore is not None or reduction == "none":
        return sdm_definition(
            *sides, ignore=ignore, temperature=temperature, epsilon=epsilon, reduction=reduction
        )

    rule = partial(matching_rule, scale=1 / temperature, epsilon=epsilon)
    return both_directions_loss(*sides, rule)


def _check_options(owner: str, temperature: float, epsilon: float) -> None:
    check_positive(owner, "temperature", temperature)
    check_positive(owner, "epsilon", epsilon)


class SDMLoss(nn.Module):
    """Module of :func:`sdm_loss`; it holds the options and has no parameters.

    Args:
        temperature: Above 0, in units of cosine similarity.
        epsilon: Above 0; bounds what a wrong match costs.
        reduction: ``"mean"``, or ``"none"`` for a value of each pair.
        distributed: Gather the rows of all ranks first. ``ignore`` then has a row for each image of
            this rank and a column for each text of all ranks, in their order, and
            ``reduction="none"`` returns the values of all ranks.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> import torch
        >>> SDMLoss(temperature=1.0, reduction="none")(torch.eye(2), torch.eye(2))
        tensor([8.7438, 8.7438])
    """

    def __init__(
        self,
        temperature: float = 0.02,
        epsilon: float = 1e-8,
        *,
        reduction: Reduction = "mean",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options("SDMLoss", temperature, epsilon)
        check_reduction("SDMLoss", reduction)

        self.temperature = temperature
        self.epsilon = epsilon
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
        """Compute :func:`sdm_loss`."""
        batch: tuple[Any, ...] = (image_embeddings, text_embeddings, labels, text_labels, ignore)
        if self.distributed:
            batch = gather_batch("SDMLoss", *batch, options=(self.extra_repr(),))

        *sides, ignored = batch
        return sdm_loss(
            *sides,
            ignore=ignored,
            temperature=self.temperature,
            epsilon=self.epsilon,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"temperature={self.temperature}, epsilon={self.epsilon}, "
            f"reduction={self.reduction!r}, distributed={self.distributed}"
        )
