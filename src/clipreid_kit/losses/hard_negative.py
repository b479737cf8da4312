"""Symmetric InfoNCE with a margin on the hardest negatives of each row."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_integer, check_labels, check_positive, fail
from clipreid_kit.distributed import gather
from clipreid_kit.losses._blocks import check_block_size
from clipreid_kit.losses._paired import check_pairs, symmetric_softmax


def hard_negative_contrastive_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None = None,
    *,
    temperature: float = 0.07,
    margin: float = 0.5,
    num_hard: int = 3,
    hard_weight: float = 1.0,
    block_size: int | None = None,
) -> Float[Tensor, ""]:
    r"""Symmetric InfoNCE plus a hinge on the cosine of each row's hardest negatives.

    Use it for text-to-image retrieval, where few confusable pairs decide the ranking: the hinge bounds their cosine
    from above, whatever the softmax says. In PK batches give ``labels``, or siblings are pushed apart.

    .. math::
        L = L_{\text{InfoNCE}} + \frac{w}{2} \Big[
            \frac{1}{N} \sum_i \frac{1}{k} \sum_{j \in H(i)} \max(0,\; \cos(v_i, t_j) - m)
            + \frac{1}{N} \sum_i \frac{1}{k} \sum_{j \in H'(i)} \max(0,\; \cos(v_j, t_i) - m) \Big]

    :math:`H(i)` holds the :math:`k` texts of highest cosine to image i among its negatives, :math:`H'(i)` the
    :math:`k` images of highest cosine to text i. The true pair (i, i) is in neither.

    Args:
        image_embeddings: Rows :math:`v`; L2-normalised here.
        text_embeddings: Rows :math:`t`; row i belongs to image i. L2-normalised here.
        labels: Identity of each pair of rows. Pairs (i, j) of one identity, i not j, are neither positive nor
            negative: they leave the softmax and cannot be mined. ``None`` means that all rows differ.
        temperature: :math:`\tau > 0` of the softmax, in units of cosine similarity.
        margin: :math:`m` in [-1, 1), a cosine: negatives below it cost nothing in the hinge.
        num_hard: :math:`k \ge 1`; fewer are taken where a row has fewer negatives.
        hard_weight: :math:`w \ge 0`, weight of the hinge.
        block_size: Rows of the matrix of similarities that are held at once; ``None`` chooses, as in
            :func:`info_nce_loss`.

    Returns:
        The sum of both terms. A row without negatives takes no part in its hinge's mean; for no rows and for a single
        row the loss is zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> near = torch.tensor([[1.0, 0.0], [0.8, 0.6]])  # the negatives are at cosine 0.8: 0.3 above the margin
        >>> loss = hard_negative_contrastive_loss(near, near)
        >>> loss - hard_negative_contrastive_loss(near, near, hard_weight=0)
        tensor(0.3000)

    Relations:
        With ``hard_weight=0`` and no labels this is :func:`info_nce_loss`.

    Note:
        Known code of this name applies the margin to similarities divided by the temperature, mines a diagonal that
        was set to 0, and has no softmax denominator. Here the margin is a cosine, the diagonal is masked with -inf
        and the first term is InfoNCE. First derivatives only.
    """
    owner = "hard_negative_contrastive_loss"
    check_pairs(
        owner,
        image_embeddings,
        text_embeddings,
        "Repeat the text of an identity for each of its images.",
    )
    if labels is not None:
        check_labels(owner, "labels", labels, image_embeddings.shape[0])
    _check_options(owner, temperature, margin, num_hard, hard_weight, block_size)
    num_hard = min(num_hard, image_embeddings.shape[0] - 1)
    hinge = None
    if num_hard > 0 and hard_weight > 0:
        hinge = _Hinge(1 / temperature, margin, num_hard, hard_weight, short=labels is not None)
    return symmetric_softmax(
        image_embeddings,
        text_embeddings,
        1 / temperature,
        block_size,
        siblings=labels,
        watcher=hinge,
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
    if not -1 <= margin < 1:
        raise fail(owner, "margin in [-1, 1), a cosine", margin)
    check_integer(owner, "num_hard", num_hard, 1)
    check_at_least(owner, "hard_weight", hard_weight, 0)
    check_block_size(owner, block_size)


class _Hinge:
    """Mines on the blocks of logits that the softmax computes anyway; see ``_paired.Watcher``."""

    def __init__(
        self, scale: float, margin: float, num_hard: int, weight: float, *, short: bool
    ) -> None:
        self._scale, self._margin, self._num_hard, self._weight = scale, margin, num_hard, weight
        self._short = short  # whether a row may have fewer negatives than num_hard
        # of each block of images (B, k): the logits of its hardest texts, which texts, and later the slopes
        self._texts: list[list[Tensor]] = []
        # of the texts (k, N): the logits of their hardest images so far, which images, and later the slopes
        self._images: list[Tensor] = []

    def see(self, start: int, stop: int, logits_BN: Tensor) -> None:
        """Take the hardest of each row, and of each column so far."""
        true_B = logits_BN.diagonal(start)
        kept_B = true_B.clone()
        true_B.fill_(-torch.inf)
        values, texts = logits_BN.topk(self._num_hard, dim=1)
        self._texts.append([values, texts])
        values, images = logits_BN.topk(min(self._num_hard, stop - start), dim=0)
        true_B.copy_(kept_B)
        images = images + start
        if self._images:
            values, images = (
                torch.cat([self._images[0], values]),
                torch.cat([self._images[1], images]),
            )
            values, best = values.topk(min(self._num_hard, values.shape[0]), dim=0)
            images = images.gather(0, best)
        self._images = [values, images]

    def finish(self) -> Tensor:
        """Half the weighted sum of both hinges."""
        image_term, slope = self._hinge(torch.cat([values for values, _ in self._texts]), dim=1)
        for block, part in zip(
            self._texts, torch.split(slope, [len(values) for values, _ in self._texts]), strict=True
        ):
            block.append(part)
        text_term, slope = self._hinge(self._images[0], dim=0)
        self._images.append(slope)
        return image_term + text_term

    def _hinge(self, logits: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        excess = (
            logits / self._scale - self._margin
        )  # -inf where a row has fewer negatives than are asked for
        share: float | Tensor = 0.5 * self._weight / excess.numel()
        if self._short:
            count = (excess > -torch.inf).sum(dim=dim, keepdim=True)
            usable = (count > 0).sum().clamp(min=1)
            share = 0.5 * self._weight / (count.clamp(min=1) * usable).to(excess.dtype)
        slope = (excess > 0).to(excess.dtype) * share
        return (excess.clamp(min=0) * slope).sum(), slope

    def add(self, start: int, stop: int, slope_BN: Tensor, unit: float | Tensor) -> None:
        """Add the slopes of the mined pairs of a block."""
        _, texts, slope = self._texts.pop(0)
        slope_BN.scatter_add_(1, texts, slope / unit)
        _, images, slope = self._images
        here = torch.where((images >= start) & (images < stop), slope / unit, 0.0)
        slope_BN.scatter_add_(0, (images - start).clamp(0, stop - start - 1), here)


class HardNegativeContrastiveLoss(nn.Module):
    """:func:`hard_negative_contrastive_loss` with its options held; no parameters.

    Args:
        temperature: Above 0, in units of cosine similarity.
        margin: A cosine in [-1, 1).
        num_hard: Hardest negatives of a row, at least 1.
        hard_weight: Weight of the hinge, at least 0.
        block_size: Rows of similarities that are held at once; ``None`` chooses.
        distributed: Gather the rows of all ranks first, and mine in the whole batch.

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
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options(
            "HardNegativeContrastiveLoss", temperature, margin, num_hard, hard_weight, block_size
        )
        self.temperature = temperature
        self.margin = margin
        self.num_hard = num_hard
        self.hard_weight = hard_weight
        self.block_size = block_size
        self.distributed = distributed

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        text_embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"] | None = None,
    ) -> Float[Tensor, ""]:
        """See :func:`hard_negative_contrastive_loss`."""
        if self.distributed:
            image_embeddings, text_embeddings = gather(image_embeddings), gather(text_embeddings)
            labels = None if labels is None else gather(labels)
        return hard_negative_contrastive_loss(
            image_embeddings,
            text_embeddings,
            labels,
            temperature=self.temperature,
            margin=self.margin,
            num_hard=self.num_hard,
            hard_weight=self.hard_weight,
            block_size=self.block_size,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return (
            f"temperature={self.temperature}, margin={self.margin}, num_hard={self.num_hard}, "
            f"hard_weight={self.hard_weight}, block_size={self.block_size}, distributed={self.distributed}"
        )
