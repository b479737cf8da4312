"""Cross-modal projection matching: SDM on the projections of one modality onto the other."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_positive
from clipreid_kit.distances import at_least_float32, dot_product, l2_normalize, to_common_precision
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import mean_over_anchors
from clipreid_kit.losses._engine.contrast_set import connected_zero
from clipreid_kit.losses._engine.distribution_matching import matching_divergence, matching_rule
from clipreid_kit.losses._engine.pair_values import (
    Reduction,
    check_image_text_pairs,
    check_reduction,
    masks_of_image_text,
    reduce_directions,
)


def cmpm_definition(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    ignore: Bool[Tensor, "n m"] | None = None,
    epsilon: float = 1e-8,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    """The formula of :func:`cmpm_loss` in plain autograd, with the (N, M) matrices in memory.

    Example:
        >>> cmpm_definition(torch.eye(2), torch.eye(2))
        tensor(8.7438)
    """
    # The length of a row onto the directions of the other modality.
    image_NM = dot_product(image_embeddings, l2_normalize(text_embeddings))
    text_MN = dot_product(text_embeddings, l2_normalize(image_embeddings))
    positive_NM, negative_NM = masks_of_image_text(
        len(image_embeddings), labels, text_labels, ignore, image_NM.device
    )

    image_N = matching_divergence(image_NM, positive_NM, negative_NM, epsilon)
    text_M = matching_divergence(text_MN, positive_NM.T, negative_NM.T, epsilon)

    return reduce_directions(
        image_N, positive_NM.any(dim=1), text_M, positive_NM.any(dim=0), reduction
    )


def cmpm_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    ignore: Bool[Tensor, "n m"] | None = None,
    epsilon: float = 1e-8,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    r"""Cross-modal projection matching (CMPM): the projections of a row should match its labels.

    Use it between image and text embeddings whose length may carry meaning: the length of a row
    takes the part of the temperature, and is learned with it. With a fixed temperature instead it
    is :func:`sdm_loss`.

    .. math::
        L = \frac{1}{N} \sum_i \sum_j p_{ij} \ln \frac{p_{ij}}{q_{ij} + \epsilon}
            + \text{the same from texts to images}, \qquad
        p_{ij} = \frac{e^{v_i \cdot \bar t_j}}{\sum_k e^{v_i \cdot \bar t_k}}, \quad
        q_{ij} = \frac{[y_i = y_j]}{\sum_k [y_i = y_k]}

    with :math:`\bar t = t / \lVert t \rVert`: :math:`v_i \cdot \bar t_j` is the length of the
    projection of an image onto the direction of a text. From texts to images it is
    :math:`t_j \cdot \bar v_i`.

    Args:
        image_embeddings: Rows :math:`v`, of any length, which matters.
        text_embeddings: Rows :math:`t`, of any length, which matters.
        labels: Identity of each image. ``None`` means that row i of the images belongs to row i of
            the texts, and to no other.
        text_labels: Identity of each text. ``None`` means that text i has the label of image i.
        ignore: Marks pairs (image, text) that are neither positive nor negative.
        epsilon: :math:`\epsilon > 0`; see :func:`sdm_loss`.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for the value of each pair, that
            of image i plus that of text i.

    Returns:
        The mean over the images plus the mean over the texts, of those that have a match; a scalar.
        With ``reduction="none"`` the values (N,); a row without a match has 0. Without images or
        texts zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree, ``text_labels`` is given without ``labels``, the pairs of
            ``reduction="none"`` are no pairs, or an option is out of its range.

    Example:
        >>> cmpm_loss(torch.eye(2), torch.eye(2))
        tensor(8.7438)

    Relations:
        Equals :func:`cmpm_definition`, the formula in a few lines. On rows of the length
        :math:`1 / \tau` it equals :func:`sdm_loss`. :func:`cmpc_loss` classifies the projections.

    Note:
        The gradient is computed with the value, block by block, and only first derivatives exist;
        with ``ignore`` or ``reduction="none"`` the definition is computed, with the whole matrices
        in memory.

    References:
        Zhang and Lu, Deep Cross-Modal Projection Learning for Image-Text Matching, ECCV 2018,
        section 3.2.
    """
    owner = "cmpm_loss"
    sides = (image_embeddings, text_embeddings, labels, text_labels)
    check_image_text_pairs(owner, *sides, ignore, reduction)
    _check_options(owner, epsilon)

    if ignore is not None or reduction == "none":
        return cmpm_definition(*sides, ignore=ignore, epsilon=epsilon, reduction=reduction)
    return _by_blocks(*sides, epsilon)


def _by_blocks(
    images: Tensor,
    texts: Tensor,
    labels: Tensor | None,
    text_labels: Tensor | None,
    epsilon: float,
) -> Tensor:
    rule = partial(matching_rule, scale=1.0, epsilon=epsilon)

    with torch.autocast(images.device.type, enabled=False):
        images, texts = to_common_precision(at_least_float32(images), at_least_float32(texts))
        if images.shape[0] == 0 or texts.shape[0] == 0:
            return connected_zero(images, texts)

        if labels is None:
            labels = torch.arange(images.shape[0], device=images.device)
        if text_labels is None:
            text_labels = labels

        text_directions = l2_normalize(texts)
        image_directions = l2_normalize(images)
        sides = (labels, text_labels)
        by_image = mean_over_anchors(images, text_directions, *sides, rule, "similarity")
        by_text = mean_over_anchors(texts, image_directions, *sides[::-1], rule, "similarity")
        return by_image + by_text


def _check_options(owner: str, epsilon: float) -> None:
    check_positive(owner, "epsilon", epsilon)


class CMPMLoss(nn.Module):
    """Module of :func:`cmpm_loss`; it holds the options and has no parameters.

    Args:
        epsilon: Above 0; bounds what a wrong match costs.
        reduction: ``"mean"``, or ``"none"`` for a value of each pair.
        distributed: Gather the rows of all ranks first. ``ignore`` then has a row for each image of
            this rank and a column for each text of all ranks, in their order, and
            ``reduction="none"`` returns the values of all ranks.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> CMPMLoss()(torch.eye(2), torch.eye(2))
        tensor(8.7438)
    """

    def __init__(
        self,
        epsilon: float = 1e-8,
        *,
        reduction: Reduction = "mean",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options("CMPMLoss", epsilon)
        check_reduction("CMPMLoss", reduction)

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
        """Compute :func:`cmpm_loss`."""
        batch: tuple[Any, ...] = (image_embeddings, text_embeddings, labels, text_labels, ignore)
        if self.distributed:
            batch = gather_batch("CMPMLoss", *batch, options=(self.extra_repr(),))

        *sides, ignored = batch
        return cmpm_loss(
            *sides,
            ignore=ignored,
            epsilon=self.epsilon,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"epsilon={self.epsilon}, reduction={self.reduction!r}, distributed={self.distributed}"
        )
