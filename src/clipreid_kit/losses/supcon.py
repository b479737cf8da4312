"""Supervised contrastive loss: one modality, or image against text."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_positive
from clipreid_kit.distances import at_least_float32, cosine_similarity, to_common_precision
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.argument_checks import check_block_size, check_contrast
from clipreid_kit.losses._engine.contrast_set import (
    connected_zero,
    masks_of_pairs,
)
from clipreid_kit.losses._engine.pair_values import Reduction, check_ignore, check_reduction
from clipreid_kit.losses._engine.row_blocks import row_blocks
from clipreid_kit.losses._engine.supcon_gradient import (
    Positives,
    supcon_by_blocks,
    supcon_one_block,
    supcon_with_contrast,
)


def supcon_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float = 0.07,
    positives: Positives = "mean",
    ignore: Bool[Tensor, "n k"] | None = None,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    """The formula of :func:`supcon_loss` in plain autograd, with the whole (N, M) matrix in memory.

    Example:
        >>> supcon_definition(torch.eye(4), torch.tensor([0, 0, 1, 1]), temperature=1.0)  # ln 3
        tensor(1.0986)
    """
    others = embeddings if contrast is None else contrast
    logits_NM = cosine_similarity(embeddings, others) / temperature
    positive_NM, negative_NM = masks_of_pairs(labels, contrast_labels)

    if ignore is not None:
        positive_NM = positive_NM & ~ignore
        negative_NM = negative_NM & ~ignore

    # The sum in the denominator is over all pairs but (i, i); without any it has no meaning.
    candidate_NM = positive_NM | negative_NM
    left_out_NM = ~candidate_NM & candidate_NM.any(dim=1, keepdim=True)
    log_probability_NM = logits_NM.masked_fill(left_out_NM, -torch.inf).log_softmax(dim=1)
    loss_N = -torch.where(positive_NM, log_probability_NM, 0.0).sum(dim=1)

    num_positives_N = positive_NM.sum(dim=1)
    if positives == "mean":
        loss_N = loss_N / num_positives_N.clamp(min=1)

    if reduction == "none":
        return loss_N
    return loss_N.sum() / (num_positives_N > 0).sum().clamp(min=1)


def supcon_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float = 0.07,
    positives: Positives = "mean",
    ignore: Bool[Tensor, "n k"] | None = None,
    reduction: Reduction = "mean",
    block_size: int | None = None,
) -> Float[Tensor, " *p"]:
    r"""Supervised contrastive (SupCon) loss between anchors and a contrast set.

    Pulls each anchor towards every contrast row with the same label, and pushes it away from all
    other rows. Leave out ``contrast`` for one modality. For image-to-text pass the text features
    (one row for each image, or one for each identity), and swap the two for text-to-image.

    .. math::
        \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)}
            \log \frac{\exp(z_i \cdot c_p / \tau)}{\sum_{a \in A(i)} \exp(z_i \cdot c_a / \tau)}

    Args:
        embeddings: Anchors :math:`z`; they are L2-normalised here, so their lengths do not matter.
        labels: Identity of each anchor.
        contrast: Rows :math:`c` to compare with. ``None`` means ``embeddings`` itself, and then
            (only then) the pair :math:`(i, i)` is left out of both :math:`P(i)` and :math:`A(i)`.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        temperature: :math:`\tau > 0`, in units of cosine similarity; 0.05 to 0.2 is usual.
        positives: ``"mean"`` divides by :math:`|P(i)|` (SupCon's :math:`L_{out}`); ``"sum"`` does
            not (PromptSG).
        ignore: Marks pairs (anchor, contrast row) that are in neither :math:`P(i)` nor
            :math:`A(i)`; with N columns if ``contrast`` is left out.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for :math:`\ell_i` of each
            anchor.
        block_size: Anchors whose logits are held at once. Defaults to blocks of 4 MiB on a CPU and
            of 64 MiB elsewhere. It changes the last digits at most.

    Returns:
        Mean of :math:`\ell_i` over the anchors that have a positive. If none has, zero with zero
        gradient, connected to the graph. With ``reduction="none"`` the values (N,), 0 for an anchor
        without a positive. No value is read, so nothing waits for the device.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given,
            or an option is out of its range.

    Example:
        >>> z = torch.eye(4)  # each anchor has three equal candidates, one of them a positive: ln 3
        >>> supcon_loss(z, torch.tensor([0, 0, 1, 1]), temperature=1.0)
        tensor(1.0986)

    Relations:
        Equals :func:`supcon_definition`, the formula in a few lines. With one row for each label,
        paired with one contrast row each, it is one direction of :func:`info_nce_loss`.

    Note:
        CLIP-ReID's stage 1 uses raw features, temperature 1 and, in one modality, keeps the pair
        (i, i). Here rows are normalised and the pair is left out, as in the paper. Across
        modalities row i of the contrast set is a true pair and always stays.

        The gradient is computed with the value, block by block, so the (N, M) matrix is never held.
        Besides the rows, their unit rows and their gradients, memory is a few blocks, and in one
        modality up to 45 MiB of blocks that are kept for a second pass (none if ``block_size`` is
        given). Only first derivatives exist. A compiled loss is one graph: one for all batch sizes
        that fit in a block, and otherwise one for each size. With ``ignore`` or
        ``reduction="none"`` the definition is computed, with the whole matrix in memory.

    References:
        Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2. Yang et al., A
        Pedestrian is Worth One Prompt (PromptSG), CVPR 2024, eq. 5 and 6.
    """
    check_contrast("supcon_loss", embeddings, labels, contrast, contrast_labels)
    _check_options("supcon_loss", temperature, positives, block_size)
    check_reduction("supcon_loss", reduction)
    num_columns = embeddings.shape[0] if contrast is None else contrast.shape[0]
    check_ignore("supcon_loss", ignore, embeddings.shape[0], num_columns)

    has_rows = embeddings.shape[0] > 0 and num_columns > 0
    if reduction == "none" or (ignore is not None and has_rows):
        return supcon_definition(
            embeddings,
            labels,
            contrast,
            contrast_labels,
            temperature=temperature,
            positives=positives,
            ignore=ignore,
            reduction=reduction,
        )
    scale = 1 / temperature

    if contrast is None or contrast_labels is None:
        rows = at_least_float32(embeddings)
        num_rows = rows.shape[0]

        # A logsumexp over no candidates is not finite.
        if num_rows < 2:
            return connected_zero(rows)

        if len(row_blocks(block_size, num_rows, num_rows, rows.device)) == 1:
            return supcon_one_block(rows, labels, scale, positives)
        return supcon_by_blocks(rows, labels, scale, positives, block_size)

    anchors, contrast = to_common_precision(embeddings, contrast)
    if anchors.shape[0] == 0 or contrast.shape[0] == 0:
        return connected_zero(anchors, contrast)

    return supcon_with_contrast(
        anchors, labels, contrast, contrast_labels, scale, positives, block_size
    )


def _check_options(
    owner: str, temperature: float, positives: Positives, block_size: int | None
) -> None:
    check_positive(owner, "temperature", temperature)
    check_choice(owner, "positives", positives, ("mean", "sum"))
    check_block_size(owner, block_size)


class SupConLoss(nn.Module):
    """Module of :func:`supcon_loss`; it holds the options and has no parameters.

    Args:
        temperature: Above 0, in units of cosine similarity.
        positives: ``"mean"`` (SupCon) or ``"sum"`` (PromptSG) over the positives of an anchor.
        reduction: ``"mean"``, or ``"none"`` for a value of each anchor.
        block_size: Anchors whose logits are held at once; ``None`` chooses by the device.
        distributed: Gather embeddings and labels from all ranks first, so that DDP's averaged
            gradient is that of the whole batch. Has no effect without a process group. ``ignore``
            then has a row for each anchor of this rank and a column for each contrast row of all
            ranks, in their order, and ``reduction="none"`` returns the values of all ranks.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> images, texts, labels = torch.eye(2), torch.eye(2), torch.tensor([3, 7])
        >>> SupConLoss(temperature=1.0)(images, labels, texts, labels)  # ln(1 + e) - 1
        tensor(0.3133)
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        positives: Positives = "mean",
        reduction: Reduction = "mean",
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options("SupConLoss", temperature, positives, block_size)
        check_reduction("SupConLoss", reduction)

        self.temperature = temperature
        self.positives: Positives = positives
        self.reduction: Reduction = reduction
        self.block_size = block_size
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
        *,
        ignore: Bool[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, " *p"]:
        """Compute :func:`supcon_loss`."""
        sides: Sequence[Any] = (embeddings, labels, contrast, contrast_labels)
        if self.distributed:
            *sides, ignore = gather_batch(
                "SupConLoss", *sides, ignore, options=(self.extra_repr(),)
            )

        return supcon_loss(
            *sides,
            temperature=self.temperature,
            positives=self.positives,
            ignore=ignore,
            reduction=self.reduction,
            block_size=self.block_size,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"temperature={self.temperature}, positives={self.positives!r}, "
            f"reduction={self.reduction!r}, block_size={self.block_size}, "
            f"distributed={self.distributed}"
        )
