"""Pairwise sigmoid loss between images and texts (SigLIP)."""

import math
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_finite, check_positive
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import cosine_similarity, to_common_precision
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.argument_checks import (
    check_block_size,
    check_labelled_pairs,
    check_logit_bias,
    check_temperature,
)
from clipreid_kit.losses._engine.attached_gradient import (
    InputGradient,
    attach_gradients,
    needs_gradient,
    without_autocast,
)
from clipreid_kit.losses._engine.contrast_set import connected_zero
from clipreid_kit.losses._engine.pair_values import Reduction, check_ignore, check_reduction
from clipreid_kit.losses._engine.row_blocks import row_blocks
from clipreid_kit.losses._engine.unit_rows import LogitGradient, LogitNeeds, UnitRows


def siglip_definition(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float | Float[Tensor, ""] = 0.1,
    bias: float | Float[Tensor, ""] = -10.0,
    ignore: Bool[Tensor, "n m"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*p"]:
    """The formula of :func:`siglip_loss` in plain autograd, with the whole (N, M) matrix in memory.

    Example:
        >>> siglip_definition(torch.eye(2), torch.eye(2), temperature=1.0, bias=0.0)
        tensor(1.0064)
    """
    logits_NM = cosine_similarity(image_embeddings, text_embeddings) / temperature + bias

    # Without labels only row i of the texts belongs to row i of the images.
    if labels is None:
        labels = torch.arange(len(image_embeddings), device=logits_NM.device)
    if text_labels is None:
        text_labels = labels

    sign_NM = torch.where(labels[:, None] == text_labels[None, :], 1.0, -1.0)
    loss_NM = -F.logsigmoid(sign_NM * logits_NM)
    if ignore is not None:
        loss_NM = torch.where(ignore, 0.0, loss_NM)

    return loss_NM if reduction == "none" else loss_NM.sum() / len(image_embeddings)


def siglip_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "m d"],
    labels: Integer[Tensor, " n"] | None = None,
    text_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float | Float[Tensor, ""] = 0.1,
    bias: float | Float[Tensor, ""] = -10.0,
    ignore: Bool[Tensor, "n m"] | None = None,
    reduction: Reduction = "mean",
    block_size: int | None = None,
) -> Float[Tensor, "*p"]:
    r"""Sigmoid loss: for every image-text pair, whether the two belong together.

    Use it where a softmax over the batch is not wanted. The loss of a pair does not depend on the
    rest of the batch, so an image may have several matching texts, or none. Give ``labels`` for PK
    batches.

    .. math::
        L = -\frac{1}{N} \sum_{i=1}^{N} \sum_{j=1}^{M}
            \log \frac{1}{1 + e^{-y_{ij} (v_i \cdot t_j / \tau + b)}},
        \qquad y_{ij} = \pm 1

    Args:
        image_embeddings: Rows :math:`v`; L2-normalised here.
        text_embeddings: Rows :math:`t`; L2-normalised here.
        labels: Identity of each image: pairs of one identity have :math:`y = 1`, all other pairs
            -1. ``None`` means that row i of the images belongs to row i of the texts, and to no
            other.
        text_labels: Identity of each text. ``None`` means that text i has the label of image i.
        temperature: :math:`\tau > 0` in units of cosine similarity, the paper's :math:`1 / t`; a
            number, or a scalar tensor to train it.
        bias: :math:`b`, added to every logit; below 0, because most pairs do not belong together. A
            number, or a scalar tensor to train it.
        ignore: Marks pairs (image, text) that are neither positive nor negative, and have no loss.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for the loss of every image with
            every text.
        block_size: Images whose similarities are held at once. Defaults to blocks of 4 MiB on a CPU
            and of 64 MiB elsewhere. It changes the last digits at most.

    Returns:
        Sum over all pairs, divided by the number of images; with ``reduction="none"`` the loss of
        every pair (N, M), whose sum over N it is. Zero, connected to the graph, without images or
        texts.

    Raises:
        ValueError: If shapes disagree, ``text_labels`` is given without ``labels``, or an option is
            out of its range.

    Example:
        >>> # ln(1 + 1/e) + ln 2 for each image
        >>> siglip_loss(torch.eye(2), torch.eye(2), temperature=1.0, bias=0.0)
        tensor(1.0064)

    Relations:
        Equals :func:`siglip_definition`, the formula in a few lines. Without labels it equals
        open_clip's ``SigLipLoss`` with ``logit_scale`` = 1 / temperature on normalised features.
        With a softmax for each pair instead: :func:`info_nce_loss`; with labels:
        :func:`supcon_loss`.

    Note:
        The gradient is computed with the value, block by block. Only first derivatives exist. With
        ``ignore`` or ``reduction="none"`` the definition is computed, with the matrix in memory.

    References:
        Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023, section 3.2 and
        algorithm 1.
    """
    check_labelled_pairs("siglip_loss", image_embeddings, text_embeddings, labels, text_labels)
    check_temperature("siglip_loss", temperature)
    check_logit_bias("siglip_loss", bias)
    check_block_size("siglip_loss", block_size)
    check_reduction("siglip_loss", reduction)
    check_ignore("siglip_loss", ignore, image_embeddings.shape[0], text_embeddings.shape[0])

    images, texts = to_common_precision(image_embeddings, text_embeddings)
    has_rows = images.shape[0] > 0 and texts.shape[0] > 0
    if reduction == "none" or (ignore is not None and has_rows):
        return siglip_definition(
            images,
            texts,
            labels,
            text_labels,
            temperature=temperature,
            bias=bias,
            ignore=ignore,
            reduction=reduction,
        )
    if not has_rows:
        return connected_zero(images, texts)

    if text_labels is None:
        text_labels = labels
    return _sigmoid_by_blocks(images, texts, labels, text_labels, 1 / temperature, bias, block_size)


def _sigmoid_by_blocks(
    images: Tensor,
    texts: Tensor,
    labels: Tensor | None,
    text_labels: Tensor | None,
    scale: float | Tensor,
    bias: float | Tensor,
    block_size: int | None,
) -> Tensor:
    needs = LogitNeeds.of(images, texts, scale)
    needs_bias = needs_gradient(bias)

    with torch.no_grad(), without_autocast(images.device):
        image_rows = UnitRows(images)
        text_rows = UnitRows(texts)
        gradient = LogitGradient(image_rows, text_rows, scale, needs)
        num_images = images.shape[0]
        losses = []
        bias_slopes = []

        for start, stop in row_blocks(block_size, num_images, texts.shape[0], images.device):
            logits_BM = (image_rows.rows[start:stop] @ text_rows.rows.T).mul_(scale).add_(bias)
            positive_BM = None
            if labels is not None and text_labels is not None:
                positive_BM = labels[start:stop, None] == text_labels[None, :]

            # -log sigmoid(y x) = softplus(-y x): negate the positives, and negate their slope back.
            logits_BM = _negate_positives(logits_BM, positive_BM, start)
            losses.append(F.softplus(logits_BM).sum())
            slope_BM = _negate_positives(logits_BM.sigmoid_(), positive_BM, start)

            gradient.add_block(start, stop, slope_BM)
            # no statement of its own: torch does not compile one here under Python 3.13
            bias_slopes += [slope_BM.sum()] if needs_bias else []

        value = torch.stack(losses).sum() / num_images
        input_gradients = gradient.input_gradients(num_images / scale, num_images)
        if isinstance(bias, Tensor) and needs_bias:
            by_bias = torch.stack(bias_slopes).sum() / num_images
            input_gradients.append(InputGradient(bias, by_bias, torch.ones_like(bias)))

    return attach_gradients(value, input_gradients)


def _negate_positives(matrix_BM: Tensor, positive_BM: Tensor | None, start: int) -> Tensor:
    """Negate the entries of positives: those of the mask, or without one those of the diagonal."""
    if positive_BM is not None:
        return torch.where(positive_BM, -matrix_BM, matrix_BM)
    matrix_BM.diagonal(start).neg_()
    return matrix_BM


@fixed_options()
class SigLIPLoss(nn.Module):
    """Module of :func:`siglip_loss`; it holds the temperature and the bias, learned or fixed.

    Args:
        temperature: Above 0, in units of cosine similarity; the initial value if it is learned. 0.1
            in the paper.
        bias: Added to every logit; the initial value if it is learned. -10 in the paper.
        learnable: Train both. The temperature is stored as the parameter ``log_scale`` =
            -ln(temperature), the paper's t'; give ``log_scale`` and ``bias`` to the optimiser
            without weight decay.
        reduction: ``"mean"``, or ``"none"`` for the loss of every image with every text.
        block_size: Images whose similarities are held at once; ``None`` chooses by the device.
        distributed: Gather the rows of all ranks first. ``ignore`` then has a row for each image of
            this rank and a column for each text of all ranks, in their order, and
            ``reduction="none"`` returns the losses of all ranks.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = SigLIPLoss()
        >>> # an orthogonal pair has the logit -10, a true pair 0
        >>> loss(torch.eye(2), torch.eye(2)).backward()
        >>> round(loss.bias.grad.item(), 3)
        -0.5
    """

    learnable: Final[bool]

    def __init__(
        self,
        temperature: float = 0.1,
        bias: float = -10.0,
        *,
        learnable: bool = True,
        reduction: Reduction = "mean",
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("SigLIPLoss", "temperature", temperature)
        check_finite("SigLIPLoss", "bias", bias)
        check_block_size("SigLIPLoss", block_size)
        check_reduction("SigLIPLoss", reduction)

        self.learnable = learnable
        self.reduction: Reduction = reduction
        self.block_size = block_size
        self.distributed = distributed

        self.fixed_temperature = temperature
        self.log_scale: nn.Parameter | None = None
        self.bias: float | nn.Parameter = bias
        if learnable:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
            self.bias = nn.Parameter(torch.tensor(float(bias)))

    @property
    def temperature(self) -> float:
        """The current temperature as a number; waits for the device if it is learned."""
        if self.log_scale is None:
            return self.fixed_temperature
        return math.exp(-self.log_scale.item())

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        text_embeddings: Float[Tensor, "m d"],
        labels: Integer[Tensor, " n"] | None = None,
        text_labels: Integer[Tensor, " m"] | None = None,
        *,
        ignore: Bool[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, "*p"]:
        """Compute :func:`siglip_loss`."""
        if self.distributed:
            bias = None if self.learnable else self.bias  # a learned one is not read
            image_embeddings, text_embeddings, labels, text_labels, ignore = gather_batch(
                "SigLIPLoss",
                image_embeddings,
                text_embeddings,
                labels,
                text_labels,
                ignore,
                options=(self.fixed_temperature, bias, self.learnable, self.reduction),
            )

        temperature: float | Tensor = self.fixed_temperature
        if self.log_scale is not None:
            temperature = (-self.log_scale.float()).exp()

        return siglip_loss(
            image_embeddings,
            text_embeddings,
            labels,
            text_labels,
            temperature=temperature,
            bias=self.bias.float() if isinstance(self.bias, Tensor) else self.bias,
            ignore=ignore,
            reduction=self.reduction,
            block_size=self.block_size,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        bias = self.bias.item() if isinstance(self.bias, Tensor) else self.bias
        return (
            f"temperature={self.temperature:g}, bias={bias:g}, "
            f"learnable={self.learnable}, reduction={self.reduction!r}, "
            f"block_size={self.block_size}, distributed={self.distributed}"
        )
