"""Pairwise sigmoid loss between images and texts (SigLIP)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_embeddings,
    check_labels,
    check_positive,
    check_same_width,
    describe,
    fail,
)
from clipreid_kit.distributed import gather
from clipreid_kit.losses._blocks import (
    UnitRows,
    add_product,
    attach,
    check_block_size,
    exactly,
    in_one_precision,
    join,
    spans,
    wanted,
)
from clipreid_kit.losses._paired import check_pairs, check_temperature


def siglip_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float | Float[Tensor, ""] = 0.1,
    bias: float | Float[Tensor, ""] = -10.0,
    block_size: int | None = None,
) -> Float[Tensor, ""]:
    r"""Sigmoid loss: every image-text pair is a question of its own, belongs together or not.

    Use it where a softmax over the batch is not wanted: one pair's loss does not depend on what else is in the
    batch, so an image may have several texts that are right, or none. Give ``labels`` for PK batches.

    .. math::
        L = -\frac{1}{N} \sum_{i=1}^{N} \sum_{j=1}^{M} \log \frac{1}{1 + e^{-y_{ij} (v_i \cdot t_j / \tau + b)}},
        \qquad y_{ij} = \pm 1

    Args:
        image_embeddings: Rows :math:`v`; L2-normalised here.
        text_embeddings: Rows :math:`t`; L2-normalised here.
        labels: Identity of each image: pairs of one identity have :math:`y = 1`, all others -1. ``None`` means that
            row i of the images belongs to row i of the texts, and to no other.
        text_labels: Identity of each text. ``None`` means that text i has the label of image i.
        temperature: :math:`\tau > 0` in units of cosine similarity, the paper's :math:`1 / t`; a number, or a scalar
            tensor to train it.
        bias: :math:`b`, added to every logit; below 0, because most pairs do not belong together. A number, or a
            scalar tensor to train it.
        block_size: Images whose similarities are held at once. ``None`` takes blocks of 4 MiB on a CPU and of 64 MiB
            elsewhere. It changes the last digits at most.

    Returns:
        Sum over all pairs, divided by the number of images. Zero, connected to the graph, without images or texts.

    Raises:
        ValueError: If shapes disagree, ``text_labels`` is given without ``labels``, or an option is out of its range.

    Example:
        >>> siglip_loss(torch.eye(2), torch.eye(2), temperature=1.0, bias=0.0)  # ln(1 + 1/e) + ln 2 for each image
        tensor(1.0064)

    Relations:
        Without labels it equals open_clip's ``SigLipLoss`` with ``logit_scale`` = 1 / temperature on normalised
        features. A pair with its own softmax instead: :func:`info_nce_loss`; with labels: :func:`supcon_loss`.

    Note:
        The gradient is found with the value, block by block: there are first derivatives only.

    References:
        Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023, section 3.2 and algorithm 1.
    """
    if labels is None:
        if text_labels is not None:
            raise fail(
                "siglip_loss", "text_labels together with labels", "text_labels only", "Give both."
            )
        check_pairs(
            "siglip_loss", image_embeddings, text_embeddings, "Give labels and text_labels."
        )
    else:
        check_embeddings("siglip_loss", "image_embeddings", image_embeddings)
        check_embeddings("siglip_loss", "text_embeddings", text_embeddings)
        check_same_width(
            "siglip_loss", "image_embeddings", image_embeddings, "text_embeddings", text_embeddings
        )
        check_labels("siglip_loss", "labels", labels, image_embeddings.shape[0])
        text_labels = labels if text_labels is None else text_labels
        check_labels("siglip_loss", "text_labels", text_labels, text_embeddings.shape[0])
    check_temperature("siglip_loss", temperature)
    _check_bias("siglip_loss", bias)
    check_block_size("siglip_loss", block_size)
    images, texts = in_one_precision(image_embeddings, text_embeddings)
    if images.shape[0] == 0 or texts.shape[0] == 0:
        return (images.sum() + texts.sum()) * 0.0
    return _sigmoid(images, texts, labels, text_labels, 1 / temperature, bias, block_size)


def _check_bias(owner: str, bias: float | Tensor) -> None:
    if isinstance(bias, Tensor):
        if bias.ndim > 0:
            raise fail(owner, "bias as a number or a scalar tensor", describe(bias))
    elif not math.isfinite(bias):
        raise fail(owner, "bias as a finite number", bias)


def _sigmoid(
    images: Tensor,
    texts: Tensor,
    labels: Tensor | None,
    text_labels: Tensor | None,
    scale: float | Tensor,
    bias: float | Tensor,
    block_size: int | None,
) -> Tensor:
    learn, learn_other, learn_scale, learn_bias = (
        wanted(images),
        wanted(texts),
        wanted(scale),
        wanted(bias),
    )
    with torch.no_grad(), exactly(images.device):
        first, second = UnitRows(images), UnitRows(texts)
        total = images.shape[0]
        parts: list[Tensor] = []
        losses: list[Tensor] = []
        slopes: list[Tensor] = []
        to_second: Tensor | None = None
        for start, stop in spans(block_size, total, texts.shape[0], images.device):
            logits_BM = (first.rows[start:stop] @ second.rows.T).mul_(scale).add_(bias)
            # -log sigmoid(y x) = softplus(-y x): the sign of the positives is turned, and the sign of their slope back
            if labels is None or text_labels is None:
                positive_BM = None
                logits_BM.diagonal(start).neg_()
            else:
                positive_BM = labels[start:stop, None] == text_labels[None, :]
                logits_BM = torch.where(positive_BM, -logits_BM, logits_BM)
            losses.append(F.softplus(logits_BM).sum())
            slope_BM = logits_BM.sigmoid_()
            if positive_BM is None:
                slope_BM.diagonal(start).neg_()
            else:
                slope_BM = torch.where(positive_BM, -slope_BM, slope_BM)
            if learn or learn_scale:
                parts.append(slope_BM @ second.rows)
            if learn_other:
                to_second = add_product(to_second, slope_BM.T, first.rows[start:stop])
            if learn_bias:
                slopes.append(slope_BM.sum())
        loss = torch.stack(losses).sum() / total
        first_part = scale_part = bias_part = None
        if parts:
            to_first = join(parts)
            if isinstance(scale, Tensor) and learn_scale:
                scale_part = scale, (to_first * first.rows).sum() / total, torch.ones_like(scale)
            first_part = first.back(to_first, total / scale) if learn else None
        second_part = second.back(to_second, total / scale) if to_second is not None else None
        if isinstance(bias, Tensor) and learn_bias:
            bias_part = bias, torch.stack(slopes).sum() / total, torch.ones_like(bias)
    return attach(loss, first_part, second_part, scale_part, bias_part)


class SigLIPLoss(nn.Module):
    """:func:`siglip_loss` with its temperature and bias held, learned or fixed.

    Args:
        temperature: Above 0, in units of cosine similarity; where it is learned, its first value. The paper's 0.1.
        bias: Added to every logit; where it is learned, its first value. The paper's -10.
        learnable: Train both. The temperature is kept as ``log_scale`` = -ln(temperature), the paper's t'; give
            ``log_scale`` and ``bias`` to the optimiser without weight decay.
        block_size: Images whose similarities are held at once; ``None`` chooses.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If ``temperature`` is not above 0, ``bias`` is not finite or ``block_size`` is below 1.

    Example:
        >>> loss = SigLIPLoss()
        >>> loss(torch.eye(2), torch.eye(2)).backward()  # an orthogonal pair at -10, the true pairs at 0
        >>> round(loss.bias.grad.item(), 3)
        -0.5
    """

    def __init__(
        self,
        temperature: float = 0.1,
        bias: float = -10.0,
        *,
        learnable: bool = True,
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("SigLIPLoss", "temperature", temperature)
        _check_bias("SigLIPLoss", bias)
        check_block_size("SigLIPLoss", block_size)
        self.learnable = learnable
        self.block_size = block_size
        self.distributed = distributed
        self.fixed_temperature = temperature
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature))) if learnable else None
        self.bias: float | nn.Parameter = (
            nn.Parameter(torch.tensor(float(bias))) if learnable else bias
        )

    @property
    def temperature(self) -> float:
        """The present temperature, as a number (waits for the device if it is learned)."""
        return (
            self.fixed_temperature if self.log_scale is None else math.exp(-self.log_scale.item())
        )

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        text_embeddings: Float[Tensor, "m d"],
        labels: Integer[Tensor, " n"] | None = None,
        text_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """See :func:`siglip_loss`."""
        if self.distributed:
            image_embeddings, text_embeddings = gather(image_embeddings), gather(text_embeddings)
            labels = None if labels is None else gather(labels)
            text_labels = None if text_labels is None else gather(text_labels)
        return siglip_loss(
            image_embeddings,
            text_embeddings,
            labels,
            text_labels,
            temperature=(-self.log_scale.float()).exp()
            if self.log_scale is not None
            else self.fixed_temperature,
            bias=self.bias.float() if isinstance(self.bias, Tensor) else self.bias,
            block_size=self.block_size,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        bias = self.bias.item() if isinstance(self.bias, Tensor) else self.bias
        return (
            f"temperature={self.temperature:g}, bias={bias:g}, learnable={self.learnable}, "
            f"block_size={self.block_size}, distributed={self.distributed}"
        )
