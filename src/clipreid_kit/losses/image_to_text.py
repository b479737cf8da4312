"""Cross-entropy of images over the text features of all identities: the second stage of CLIP-ReID."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_embeddings,
    check_fraction,
    check_labels,
    check_positive,
    check_same_width,
)
from clipreid_kit.distances import exact, l2_normalize
from clipreid_kit.distributed import gather
from clipreid_kit.losses._all_classes import check_class_labels, cross_entropy_over_classes


def _check_smoothing(owner: str, label_smoothing: float) -> None:
    check_fraction(owner, "label_smoothing", label_smoothing)


def _losses_of_rows(
    embeddings: Tensor,
    labels: Tensor,
    text_embeddings: Tensor,
    temperature: float,
    label_smoothing: float,
    normalize: bool,
) -> Float[Tensor, " n"]:
    owner = "image_to_text_ce_loss"
    check_embeddings(owner, "embeddings", embeddings)
    check_labels(owner, "labels", labels, embeddings.shape[0])
    check_embeddings(owner, "text_embeddings", text_embeddings)
    check_same_width(owner, "embeddings", embeddings, "text_embeddings", text_embeddings)
    check_positive(owner, "temperature", temperature)
    _check_smoothing(owner, label_smoothing)
    num_texts = text_embeddings.shape[0]
    check_class_labels(
        owner,
        labels,
        num_texts,
        "A label is a row of text_embeddings: relabel the training identities.",
    )
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = (l2_normalize(embeddings) if normalize else exact(embeddings)) / temperature
        texts = exact(text_embeddings)
        if rows.shape[0] == 0:
            return (rows.sum(dim=1) + texts.sum()) * 0.0
        dtype = torch.promote_types(rows.dtype, texts.dtype)
        rows, texts, labels = rows.to(dtype), texts.to(dtype), labels.long()
        scale = None
        if normalize and texts.requires_grad:
            texts = l2_normalize(texts)
        elif (
            normalize
        ):  # of many texts, N x C logits are cheaper to scale than a C x D copy is to make
            length = torch.linalg.vector_norm(texts, dim=1)
            scale = torch.where(length > 0, 1 / length.clamp(min=torch.finfo(dtype).tiny), 0.0)
        losses = cross_entropy_over_classes(rows, labels, texts, scale)
        if (
            label_smoothing > 0
        ):  # the smoothed target needs the mean of all logits, which is one product
            own = texts.index_select(0, labels)
            own = own if scale is None else own * scale.index_select(0, labels)[:, None]
            mean = (texts.sum(dim=0) if scale is None else scale @ texts) / num_texts
            losses = losses + label_smoothing * (rows * (own - mean)).sum(dim=1)
        return losses


def image_to_text_ce_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    text_embeddings: Float[Tensor, "c d"],
    *,
    temperature: float = 0.01,
    label_smoothing: float = 0.1,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    r"""Cross-entropy of image embeddings over the text features of all identities (CLIP-ReID's ``i2tce``).

    Use it when every identity has one text feature, from learned prompts or from a description, that stays as it is
    while the image tower is trained. The texts are a classifier that is not learned.

    .. math::
        \ell_i = -\sum_{c=1}^{C} q_{ic} \log \frac{e^{v_i \cdot t_c / \tau}}{\sum_{a=1}^{C} e^{v_i \cdot t_a / \tau}}
        \qquad q_{ic} = (1 - \varepsilon)\, [c = y_i] + \varepsilon / C

    Args:
        embeddings: Images :math:`v`, at the level that CLIP compares with text (projected).
        labels: For each image the row of its identity in ``text_embeddings``, in [0, C). Out of that range is an
            error: a ``ValueError`` for labels on the CPU, the device's own assertion elsewhere, where looking would
            wait for the device.
        text_embeddings: Texts :math:`t`, one row for each identity of the training set. Give them without gradient
            (``detach()``) if they are fixed: then no more than 64 MB of logits are held at a time, and none of them
            until the backward pass (and there is no second derivative). With gradient the logits (N, C) are held.
        temperature: :math:`\tau > 0`, in units of the similarity; 0.01 is the scale (100) that CLIP's own training
            ends at, so the untrained loss is that of CLIP's zero-shot classifier.
        label_smoothing: :math:`\varepsilon` in [0, 1), spread over all C identities.
        normalize: Compare by cosine. ``False`` takes raw dot products.

    Returns:
        Mean over the rows; zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree, an option is out of its range, or (on the CPU) a label is.

    Example:
        >>> image_to_text_ce_loss(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), temperature=1.0, label_smoothing=0)
        tensor(0.3133)

    Relations:
        With one image for each text, this is the image-to-text half of :func:`info_nce_loss`, smoothed. Where
        the texts are learned at the same time, :func:`supcon_loss` compares within the batch.

    Note:
        CLIP-ReID takes raw dot products: ``normalize=False, temperature=1.0`` is its loss, digit for digit. There
        the lengths of the features set the sharpness, and training can lower the loss by lengthening the embeddings,
        which no ranking by cosine sees; hence the default here.

    References:
        Li, Sun and Li, CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text
        Labels, AAAI 2023, second stage, L_i2tce.
    """
    losses = _losses_of_rows(
        embeddings, labels, text_embeddings, temperature, label_smoothing, normalize
    )
    return losses.sum() / max(losses.shape[0], 1)


class ImageToTextCELoss(nn.Module):
    """:func:`image_to_text_ce_loss` with its options held; no parameters.

    Args:
        temperature: Above 0, in units of the similarity.
        label_smoothing: In [0, 1).
        normalize: Compare by cosine; ``False`` with ``temperature=1.0`` is CLIP-ReID's form.
        distributed: Average over the rows of all ranks. Each rank computes its own rows only, so the texts have to be
            the same on every rank.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = ImageToTextCELoss(temperature=1.0, label_smoothing=0.0)
        >>> loss(torch.eye(2), torch.tensor([0, 1]), torch.eye(2))  # ln(1 + e) - 1
        tensor(0.3133)
    """

    def __init__(
        self,
        temperature: float = 0.01,
        *,
        label_smoothing: float = 0.1,
        normalize: bool = True,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_positive("ImageToTextCELoss", "temperature", temperature)
        _check_smoothing("ImageToTextCELoss", label_smoothing)
        self.temperature = temperature
        self.label_smoothing = label_smoothing
        self.normalize = normalize
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        text_embeddings: Float[Tensor, "c d"],
    ) -> Float[Tensor, ""]:
        """See :func:`image_to_text_ce_loss`."""
        losses = _losses_of_rows(
            embeddings,
            labels,
            text_embeddings,
            self.temperature,
            self.label_smoothing,
            self.normalize,
        )
        if self.distributed:  # a row's loss needs no other row: N numbers travel, and no embedding
            losses = gather(losses)
        return losses.sum() / max(losses.shape[0], 1)

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return (
            f"temperature={self.temperature}, label_smoothing={self.label_smoothing}, "
            f"normalize={self.normalize}, distributed={self.distributed}"
        )
