"""Symmetric InfoNCE with a margin on the hardest negatives of each row."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_integer,
    check_labels,
    check_number,
    check_positive,
    fail,
)
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.argument_checks import check_block_size, check_pairs
from clipreid_kit.losses._engine.attached_gradient import check_reverse_mode
from clipreid_kit.losses._engine.pair_terms import cross_entropy
from clipreid_kit.losses._engine.pair_values import Reduction, check_ignore, check_reduction
from clipreid_kit.losses._engine.symmetric_softmax import symmetric_softmax


def hard_negative_contrastive_definition(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None = None,
    *,
    temperature: float = 0.07,
    margin: float = 0.5,
    num_hard: int = 3,
    hard_weight: float = 1.0,
    ignore: Bool[Tensor, "n n"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    """The formula of :func:`hard_negative_contrastive_loss` in plain autograd.

    The whole (N, N) matrix is in memory.

    Example:
        >>> near = torch.tensor([[1.0, 0.0], [0.8, 0.6]])  # the cosine of the negatives is 0.8
        >>> loss = hard_negative_contrastive_definition(near, near)
        >>> loss - hard_negative_contrastive_definition(near, near, hard_weight=0)
        tensor(0.3000)
    """
    cosine_NN = cosine_similarity(image_embeddings, text_embeddings)
    pair_NN = torch.eye(len(cosine_NN), dtype=torch.bool, device=cosine_NN.device)
    negative_NN = ~pair_NN if labels is None else labels[:, None] != labels[None, :]
    if ignore is not None:
        negative_NN = negative_NN & ~ignore
    num_pairs = len(cosine_NN)
    num_hardest = max(0, min(num_hard, num_pairs - 1))
    loss_N = cosine_NN.new_zeros(num_pairs)

    # Image to text, then text to image.
    for direction_NN in (cosine_NN, cosine_NN.T):
        # Siblings are neither positives nor negatives.
        is_left_out_NN = ~(pair_NN | negative_NN)
        logits_NN = (direction_NN / temperature).masked_fill(is_left_out_NN, -torch.inf)
        info_nce_N = -logits_NN.log_softmax(dim=1).diagonal()

        negatives_NN = direction_NN.masked_fill(~negative_NN, -torch.inf)
        hardest_NK = negatives_NN.topk(num_hardest, dim=1).values
        num_mined_N = (hardest_NK > -torch.inf).sum(dim=1)
        hinge_N = (hardest_NK - margin).clamp(min=0).sum(dim=1) / num_mined_N.clamp(min=1)

        # The mean of a hinge is over the rows that have negatives.
        num_mining = (num_mined_N > 0).sum().clamp(min=1).to(cosine_NN.dtype)
        share = num_pairs / num_mining
        loss_N = loss_N + 0.5 * (info_nce_N + hard_weight * share * hinge_N)

    return loss_N if reduction == "none" else loss_N.mean()


def hard_negative_contrastive_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None = None,
    *,
    temperature: float = 0.07,
    margin: float = 0.5,
    num_hard: int = 3,
    hard_weight: float = 1.0,
    ignore: Bool[Tensor, "n n"] | None = None,
    reduction: Reduction = "mean",
    block_size: int | None = None,
) -> Float[Tensor, " *p"]:
    r"""Symmetric InfoNCE plus a hinge on the cosine of each row's hardest negatives.

    Use it for text-to-image retrieval, where a few confusable pairs decide the ranking: the hinge
    bounds their cosine from above, independently of the softmax. In PK batches give ``labels``, so
    that siblings are not pushed apart.

    .. math::
        L = L_{\text{InfoNCE}} + \frac{w}{2} \Big[
            \frac{1}{N} \sum_i \frac{1}{k} \sum_{j \in H(i)} \max(0,\; \cos(v_i, t_j) - m)
            + \frac{1}{N} \sum_i \frac{1}{k} \sum_{j \in H'(i)} \max(0,\; \cos(v_j, t_i) - m) \Big]

    :math:`H(i)` holds the :math:`k` texts with the highest cosine to image i among its negatives,
    and :math:`H'(i)` the :math:`k` images with the highest cosine to text i. The true pair (i, i)
    is in neither.

    Args:
        image_embeddings: Rows :math:`v`; L2-normalised here.
        text_embeddings: Rows :math:`t`; row i belongs to image i. L2-normalised here.
        labels: Identity of each pair of rows. Pairs (i, j) of one identity, i not j, are neither
            positive nor negative: they are left out of the softmax and of the mining. ``None``
            means that all rows differ.
        temperature: :math:`\tau > 0` of the softmax, in units of cosine similarity.
        margin: :math:`m` in [-1, 1), a cosine: negatives below it cost nothing in the hinge.
        num_hard: :math:`k \ge 1`; fewer are taken where a row has fewer negatives.
        hard_weight: :math:`w \ge 0`, weight of the hinge.
        ignore: Marks further pairs (image, text) that are neither. The diagonal is not read, as a
            true pair always counts.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for the value of each pair, the
            mean of its two directions.
        block_size: Rows of the similarity matrix that are held at once; by default chosen as in
            :func:`info_nce_loss`.

    Returns:
        Sum of both terms; with ``reduction="none"`` the values (N,), whose mean it is. A row
        without negatives is left out of its hinge's mean: the other hinges are scaled by the
        number of rows over theirs. For no rows and for a single row the loss is zero, connected to
        the graph.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> near = torch.tensor([[1.0, 0.0], [0.8, 0.6]])  # cosine 0.8: 0.3 above the margin
        >>> loss = hard_negative_contrastive_loss(near, near)
        >>> loss - hard_negative_contrastive_loss(near, near, hard_weight=0)
        tensor(0.3000)

    Relations:
        Equals :func:`hard_negative_contrastive_definition`, the formula in a few lines. With
        ``hard_weight=0`` and no labels it is :func:`info_nce_loss`.

    Note:
        Known code of this name applies the margin to similarities divided by the temperature, mines
        a diagonal that was set to 0, and has no softmax denominator. Here the margin is a cosine,
        the diagonal is masked with -inf, and the first term is InfoNCE. Only first derivatives
        exist. With ``ignore`` or ``reduction="none"`` the definition is computed, with the whole
        matrix in memory.
    """
    owner = "hard_negative_contrastive_loss"
    remedy = "Repeat the text of an identity for each of its images."
    check_pairs(owner, image_embeddings, text_embeddings, remedy)
    if labels is not None:
        check_labels(owner, "labels", labels, image_embeddings.shape[0], image_embeddings.device)
        check_reverse_mode(owner, labels)
    _check_options(owner, temperature, margin, num_hard, hard_weight, block_size)
    check_reduction(owner, reduction)
    check_ignore(owner, ignore, image_embeddings.shape[0], image_embeddings.shape[0])

    has_rows = image_embeddings.shape[0] > 0
    if reduction == "none" or (ignore is not None and has_rows):
        return hard_negative_contrastive_definition(
            image_embeddings,
            text_embeddings,
            labels,
            temperature=temperature,
            margin=margin,
            num_hard=num_hard,
            hard_weight=hard_weight,
            ignore=ignore,
            reduction=reduction,
        )

    hinge = None
    num_hard = min(num_hard, image_embeddings.shape[0] - 1)
    if num_hard > 0 and hard_weight > 0:
        may_have_fewer = labels is not None
        hinge = _HardNegativeHinge(1 / temperature, margin, num_hard, hard_weight, may_have_fewer)

    return symmetric_softmax(
        image_embeddings,
        text_embeddings,
        1 / temperature,
        cross_entropy,
        siblings=labels,
        logit_term=hinge,
        block_size=block_size,
    )


def _check_options(
    owner: str,
    temperature: float,
    margin: float,
    num_hard: int,
    hard_weight: float,
    block_size: int | None,
) -> None:
    check_positive(owner, "temperature", temperature)
    check_number(owner, "margin", margin)
    if not -1 <= margin < 1:
        raise fail(owner, "margin in [-1, 1), a cosine", margin)

    check_integer(owner, "num_hard", num_hard, 1)
    check_at_least(owner, "hard_weight", hard_weight, 0)
    check_block_size(owner, block_size)


class _MinedTexts(NamedTuple):
    """Logits (B, k) of the hardest texts of a block of images, and which texts they are."""

    logits: Tensor
    texts: Tensor


class _MinedImages(NamedTuple):
    """Logits (k, N) of the hardest images of each text so far, and which images they are."""

    logits: Tensor
    images: Tensor


class _HardNegativeHinge:
    """The hinge, mined from the blocks of logits that the softmax computes anyway.

    A ``LogitTerm`` of the symmetric softmax: it reads all blocks, then has a value, then adds its
    slopes block by block.
    """

    def __init__(
        self,
        scale: float,
        margin: float,
        num_hard: int,
        weight: float,
        may_have_fewer: bool,
    ) -> None:
        self._scale = scale
        self._margin = margin
        self._num_hard = num_hard
        self._weight = weight
        # Whether a row may have fewer negatives than num_hard.
        self._may_have_fewer = may_have_fewer

        self._texts_of_blocks: list[_MinedTexts] = []
        self._images: _MinedImages | None = None
        self._text_slopes: list[Tensor] = []
        self._image_slopes: Tensor | None = None

    def read_block(self, start: int, stop: int, logits_BN: Tensor) -> None:
        """Take the hardest texts of each image, and the hardest images of each text so far."""
        true_B = logits_BN.diagonal(start)
        kept_B = true_B.clone()
        true_B.fill_(-torch.inf)

        self._texts_of_blocks.append(_MinedTexts(*logits_BN.topk(self._num_hard, dim=1)))
        logits, images = logits_BN.topk(min(self._num_hard, stop - start), dim=0)

        true_B.copy_(kept_B)
        self._merge_images(logits, images + start)

    def _merge_images(self, logits: Tensor, images: Tensor) -> None:
        if self._images is not None:
            logits = torch.cat([self._images.logits, logits])
            images = torch.cat([self._images.images, images])
            logits, best = logits.topk(min(self._num_hard, logits.shape[0]), dim=0)
            images = images.gather(0, best)

        self._images = _MinedImages(logits, images)

    def value(self) -> Tensor:
        """Half the weighted sum of both hinges."""
        if self._images is None:
            raise ValueError("_HardNegativeHinge: no block was read.")

        text_logits = [block.logits for block in self._texts_of_blocks]
        image_term, text_slopes = self._hinge(torch.cat(text_logits), dim=1)
        sizes = [len(logits) for logits in text_logits]
        self._text_slopes = list(torch.split(text_slopes, sizes))

        text_term, self._image_slopes = self._hinge(self._images.logits, dim=0)
        return image_term + text_term

    def _hinge(self, logits: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Weighted mean of the hinge, and its slope at each mined cosine."""
        # -inf where a row has fewer negatives than num_hard.
        excess = logits / self._scale - self._margin

        share: float | Tensor = 0.5 * self._weight / excess.numel()
        if self._may_have_fewer:
            count = (excess > -torch.inf).sum(dim=dim, keepdim=True)
            num_rows = (count > 0).sum().clamp(min=1)
            share = 0.5 * self._weight / (count.clamp(min=1) * num_rows).to(excess.dtype)

        slope = (excess > 0).to(excess.dtype) * share
        return (excess.clamp(min=0) * slope).sum(), slope

    def add_slope(self, start: int, stop: int, slope_BN: Tensor, unit: float | Tensor) -> None:
        """Add the slopes of the mined pairs of a block, in order, divided by ``unit``."""
        texts = self._texts_of_blocks.pop(0).texts
        slope_BN.scatter_add_(1, texts, self._text_slopes.pop(0) / unit)

        if self._images is None or self._image_slopes is None:
            raise ValueError("_HardNegativeHinge: the value was not computed.")

        images = self._images.images
        in_block = (images >= start) & (images < stop)
        slopes = torch.where(in_block, self._image_slopes / unit, 0.0)
        rows = (images - start).clamp(0, stop - start - 1)
        slope_BN.scatter_add_(0, rows, slopes)


class HardNegativeContrastiveLoss(nn.Module):
    """Module of :func:`hard_negative_contrastive_loss`; it holds the options and has no parameters.

    Args:
        temperature: Above 0, in units of cosine similarity.
        margin: A cosine in [-1, 1).
        num_hard: Hardest negatives of a row, at least 1.
        hard_weight: Weight of the hinge, at least 0.
        reduction: ``"mean"``, or ``"none"`` for a value of each pair.
        block_size: Rows of similarities that are held at once; ``None`` chooses by the device.
        distributed: Gather the rows of all ranks first, and mine in the whole batch. ``ignore``
            then has a row for each image of this rank and a column for each text of all ranks, in
            their order, and ``reduction="none"`` returns the values of all ranks.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> rows = torch.eye(2)  # no negative is above the margin: InfoNCE alone
        >>> HardNegativeContrastiveLoss(temperature=1.0)(rows, rows)
        tensor(0.3133)
    """

    def __init__(
        self,
        temperature: float = 0.07,
        margin: float = 0.5,
        num_hard: int = 3,
        *,
        hard_weight: float = 1.0,
        reduction: Reduction = "mean",
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        owner = "HardNegativeContrastiveLoss"
        _check_options(owner, temperature, margin, num_hard, hard_weight, block_size)
        check_reduction(owner, reduction)

        self.temperature = temperature
        self.margin = margin
        self.num_hard = num_hard
        self.hard_weight = hard_weight
        self.reduction: Reduction = reduction
        self.block_size = block_size
        self.distributed = distributed

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        text_embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"] | None = None,
        *,
        ignore: Bool[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, " *p"]:
        """Compute :func:`hard_negative_contrastive_loss`."""
        if self.distributed:
            image_embeddings, text_embeddings, labels, ignore = gather_batch(
                "HardNegativeContrastiveLoss",
                image_embeddings,
                text_embeddings,
                labels,
                ignore,
                options=(self.extra_repr(),),
            )

        return hard_negative_contrastive_loss(
            image_embeddings,
            text_embeddings,
            labels,
            temperature=self.temperature,
            margin=self.margin,
            num_hard=self.num_hard,
            hard_weight=self.hard_weight,
            ignore=ignore,
            reduction=self.reduction,
            block_size=self.block_size,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"temperature={self.temperature}, margin={self.margin}, num_hard={self.num_hard}, "
            f"hard_weight={self.hard_weight}, reduction={self.reduction!r}, "
            f"block_size={self.block_size}, "
            f"distributed={self.distributed}"
        )
