"""Cross-modal projection classification: one classifier for both modalities."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_label_range, check_labels, check_same_width
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import dot_product, l2_normalize, to_common_precision
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.argument_checks import check_pair_shapes
from clipreid_kit.losses._engine.contrast_set import connected_zero
from clipreid_kit.losses._engine.pair_values import Reduction, check_reduction
from clipreid_kit.losses._margin_head import new_head_weight


def cmpc_loss(
    image_embeddings: Float[Tensor, "n d"],
    text_embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "c d"],
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, " *p"]:
    r"""Cross-modal projection classification (CMPC): classify each row as its partner sees it.

    Use it beside :func:`cmpm_loss`, or as an identity loss that both modalities share. A row is
    projected onto the direction of the row that it belongs to, and classified there, so that the
    classifier can only use what both modalities have in common.

    .. math::
        L = -\frac{1}{N} \sum_i \Big[
            \ln \frac{e^{\bar w_{y_i} \cdot \hat v_i}}{\sum_c e^{\bar w_c \cdot \hat v_i}}
            + \ln \frac{e^{\bar w_{y_i} \cdot \hat t_i}}{\sum_c e^{\bar w_c \cdot \hat t_i}} \Big],
        \qquad \hat v_i = (v_i \cdot \bar t_i)\, \bar t_i, \quad
        \hat t_i = (t_i \cdot \bar v_i)\, \bar v_i

    with :math:`\bar x = x / \lVert x \rVert`.

    Args:
        image_embeddings: Rows :math:`v`, of any length, which is the scale of the logits.
        text_embeddings: Rows :math:`t`; row i belongs to image i.
        labels: Identity of each pair, in [0, C).
        weight: One row :math:`w` for each identity; L2-normalised here.
        reduction: ``"mean"`` for the loss of the batch; ``"none"`` for the value of each pair.

    Returns:
        The mean over the pairs, of both directions summed; a scalar, or the values (N,). For no
        rows zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree, or (on the CPU) a label is out of range.

    Example:
        >>> # each row is its own projection, and a weight: ln(1 + 1/e) for images and for texts
        >>> cmpc_loss(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), torch.eye(2))
        tensor(0.6265)

    Relations:
        In plain autograd: two products of N x C. An identity loss that both modalities share,
        without projection and with any head, is ``head(images)`` and ``head(texts)`` of one
        ``IdentityClassifier``, ``ArcFaceHead`` or ``CosFaceHead``; the term ``id_text`` of
        ``ClipBaseline``.

    References:
        Zhang and Lu, Deep Cross-Modal Projection Learning for Image-Text Matching, ECCV 2018,
        section 3.3.
    """
    owner = "cmpc_loss"
    check_pair_shapes(owner, image_embeddings, text_embeddings, "Repeat the text of each image.")
    check_labels(owner, "labels", labels, image_embeddings.shape[0], image_embeddings.device)
    check_label_range(owner, labels, weight.shape[0])
    check_same_width(owner, "image_embeddings", image_embeddings, "weight", weight)
    check_reduction(owner, reduction)

    with torch.autocast(image_embeddings.device.type, enabled=False):
        images, texts = to_common_precision(image_embeddings, text_embeddings)
        directions = l2_normalize(weight)
        by_image = _classify_projection(images, texts, labels, directions)
        by_text = _classify_projection(texts, images, labels, directions)
        loss_N = by_image + by_text

        if reduction == "none":
            return loss_N
        if loss_N.shape[0] == 0:
            return connected_zero(images, texts) + connected_zero(weight)
        return loss_N.mean()


def _classify_projection(
    rows: Tensor, partners: Tensor, labels: Tensor, directions: Tensor
) -> Tensor:
    """Cross-entropy of each row's projection onto its partner."""
    partners = l2_normalize(partners)
    length_N = (rows * partners).sum(dim=1)
    logits_NC = length_N[:, None] * dot_product(partners, directions)
    return F.cross_entropy(logits_NC, labels.long(), reduction="none")


@fixed_options(not_kept=("dim", "num_identities"))
class CMPCLoss(nn.Module):
    """Module of :func:`cmpc_loss`; it holds the weight of the identities.

    Args:
        dim: Width D of the embeddings, at least 1.
        num_identities: Number of identities C, at least 1.
        reduction: ``"mean"``, or ``"none"`` for a value of each pair.
        distributed: Gather the rows of all ranks first. Every rank then computes the whole gradient
            of the weight.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = CMPCLoss(dim=4, num_identities=10)
        >>> loss(torch.randn(2, 4), torch.randn(2, 4), torch.tensor([3, 7])).shape
        torch.Size([])
    """

    def __init__(
        self,
        dim: int,
        num_identities: int,
        *,
        reduction: Reduction = "mean",
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_integer("CMPCLoss", "dim", dim, 1)
        check_integer("CMPCLoss", "num_identities", num_identities, 1)
        check_reduction("CMPCLoss", reduction)

        self.reduction: Reduction = reduction
        self.distributed = distributed
        self.weight = new_head_weight(dim, num_identities, 1)

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        text_embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
    ) -> Float[Tensor, " *p"]:
        """Compute :func:`cmpc_loss`."""
        if self.distributed:
            image_embeddings, text_embeddings, labels = gather_batch(
                "CMPCLoss",
                image_embeddings,
                text_embeddings,
                labels,
                options=(self.extra_repr(),),
            )

        return cmpc_loss(
            image_embeddings, text_embeddings, labels, self.weight, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        """Sizes and options for ``print(module)``."""
        num_identities, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={num_identities}, reduction={self.reduction!r}, "
            f"distributed={self.distributed}"
        )
