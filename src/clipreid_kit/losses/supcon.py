"""Supervised contrastive loss: one modality, or image against text."""

from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_embeddings,
    check_labels,
    check_positive,
    check_same_width,
    fail,
)
from clipreid_kit.distances import exact
from clipreid_kit.distributed import gather
from clipreid_kit.losses._blocks import check_block_size, in_one_precision, spans
from clipreid_kit.losses._supcon import Positives, across, triangle, whole


def supcon_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float = 0.07,
    positives: Positives = "mean",
    block_size: int | None = None,
) -> Float[Tensor, ""]:
    r"""Supervised contrastive (SupCon) loss between anchors and a contrast set.

    Pulls each anchor towards every contrast row that shares its label and pushes it from all others. Leave out
    ``contrast`` for one modality; pass the text features (a row for each image, or one for each identity) for
    image-to-text, and swap the two for text-to-image.

    .. math::
        \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)}
            \log \frac{\exp(z_i \cdot c_p / \tau)}{\sum_{a \in A(i)} \exp(z_i \cdot c_a / \tau)}

    Args:
        embeddings: Anchors :math:`z`; L2-normalised here, so any scale will do.
        labels: Identity of each anchor.
        contrast: Rows :math:`c` to compare with. ``None`` means ``embeddings`` itself, and then (only then) the
            pair :math:`(i, i)` is left out of both :math:`P(i)` and :math:`A(i)`.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        temperature: :math:`\tau > 0`, in units of cosine similarity; 0.05 to 0.2 is usual.
        positives: ``"mean"`` divides by :math:`|P(i)|` (SupCon's :math:`L_{out}`); ``"sum"`` does not (PromptSG).
        block_size: Anchors whose logits are held at once. ``None`` takes blocks of 4 MiB on a CPU and of 64 MiB
            elsewhere. It changes the last digits at most.

    Returns:
        Mean of :math:`\ell_i` over the anchors that have a positive. If none has, zero with zero gradient, still
        connected to the graph. No value is inspected, so there is no wait for the device.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given, or an option is
            out of its range.

    Example:
        >>> import torch
        >>> z = torch.eye(4)
        >>> supcon_loss(z, torch.tensor([0, 0, 1, 1]), temperature=1.0)  # ln 3: three equal candidates each
        tensor(1.0986)

    Relations:
        With one row for each label, ``contrast`` paired with it, this is one direction of :func:`info_nce_loss`.

    Note:
        CLIP-ReID's stage 1 uses raw features, temperature 1 and, in one modality, keeps the pair (i, i); here rows
        are normalised and the pair is left out, as in the paper. Across modalities row i of the contrast is a true
        pair and always stays.

        The gradient is found with the value, block by block, so that the N x M matrix is never held: beside the
        rows, their unit forms and their gradients, memory is a few blocks, and in one modality up to 45 MiB of blocks
        that are kept for a second run (none where ``block_size`` is given). There are first derivatives only. A
        compiled loss is one graph: for batches of any size where they fit in one block, else for each size.

    References:
        Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2. Yang et al., A Pedestrian is Worth One
        Prompt (PromptSG), CVPR 2024, eq. 5 and 6.
    """
    check_embeddings("supcon_loss", "embeddings", embeddings)
    check_labels("supcon_loss", "labels", labels, embeddings.shape[0])
    check_positive("supcon_loss", "temperature", temperature)
    check_choice("supcon_loss", "positives", positives, ("mean", "sum"))
    check_block_size("supcon_loss", block_size)
    if (contrast is None) != (contrast_labels is None):
        raise fail(
            "supcon_loss",
            "contrast and contrast_labels together",
            "only one of them",
            "Give both for image-text, neither for one modality.",
        )
    if contrast is None or contrast_labels is None:
        rows = exact(embeddings)
        if rows.shape[0] < 2:  # nothing to compare: a logsumexp over no candidate is not finite
            return rows.sum() * 0.0
        if len(spans(block_size, rows.shape[0], rows.shape[0], rows.device)) == 1:
            return whole(rows, labels, 1 / temperature, positives)
        return triangle(rows, labels, 1 / temperature, positives, block_size)
    check_embeddings("supcon_loss", "contrast", contrast)
    check_labels("supcon_loss", "contrast_labels", contrast_labels, contrast.shape[0])
    check_same_width("supcon_loss", "embeddings", embeddings, "contrast", contrast)
    anchors, candidates = in_one_precision(embeddings, contrast)
    if anchors.shape[0] == 0 or candidates.shape[0] == 0:
        return (anchors.sum() + candidates.sum()) * 0.0
    return across(
        anchors, labels, candidates, contrast_labels, 1 / temperature, positives, block_size
    )


class SupConLoss(nn.Module):
    """:func:`supcon_loss` with its options held; no parameters.

    Args:
        temperature: Above 0, in units of cosine similarity.
        positives: ``"mean"`` (SupCon) or ``"sum"`` (PromptSG) over the positives of an anchor.
        block_size: Anchors whose logits are held at once; ``None`` chooses.
        distributed: Gather embeddings and labels from all ranks first, so that DDP's averaged gradient is that of
            the whole batch; does nothing where no process group runs.

    Raises:
        ValueError: If ``temperature`` is not above 0 or ``block_size`` is below 1.

    Example:
        >>> import torch
        >>> images, texts, labels = torch.eye(2), torch.eye(2), torch.tensor([3, 7])
        >>> SupConLoss(temperature=1.0)(images, labels, texts, labels)  # ln(1 + e) - 1
        tensor(0.3133)
    """

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        positives: Positives = "mean",
        block_size: int | None = None,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("SupConLoss", "temperature", temperature)
        check_choice("SupConLoss", "positives", positives, ("mean", "sum"))
        check_block_size("SupConLoss", block_size)
        self.temperature = temperature
        self.positives: Positives = positives
        self.block_size = block_size
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """See :func:`supcon_loss`."""
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
            contrast = None if contrast is None else gather(contrast)
            contrast_labels = None if contrast_labels is None else gather(contrast_labels)
        return supcon_loss(
            embeddings,
            labels,
            contrast,
            contrast_labels,
            temperature=self.temperature,
            positives=self.positives,
            block_size=self.block_size,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return (
            f"temperature={self.temperature}, positives={self.positives!r}, block_size={self.block_size}, "
            f"distributed={self.distributed}"
        )
