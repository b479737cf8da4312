"""Cross entropy of images over the texts of all identities: the second stage of CLIP-ReID."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_embeddings,
    check_fraction,
    check_label_range,
    check_labels,
    check_positive,
    check_same_width,
)
from clipreid_kit.distances import (
    at_least_float32,
    cosine_similarity,
    dot_product,
    l2_normalize,
    to_common_precision,
)
from clipreid_kit.distributed import errors_on_all_ranks, gather_batch
from clipreid_kit.losses._engine.class_cross_entropy import cross_entropy_over_classes


def image_to_text_ce_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    text_embeddings: Float[Tensor, "c d"],
    *,
    temperature: float = 0.01,
    label_smoothing: float = 0.1,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    """The formula of :func:`image_to_text_ce_loss` in plain autograd, with (N, C) logits in memory.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 1])
        >>> image_to_text_ce_definition(rows, labels, rows, temperature=1.0, label_smoothing=0)
        tensor(0.3133)
    """
    similarity = cosine_similarity if normalize else dot_product
    logits_NC = similarity(embeddings, text_embeddings) / temperature
    return F.cross_entropy(logits_NC, labels.long(), label_smoothing=label_smoothing)


def image_to_text_ce_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    text_embeddings: Float[Tensor, "c d"],
    *,
    temperature: float = 0.01,
    label_smoothing: float = 0.1,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    r"""Cross entropy of images over the text features of all identities (CLIP-ReID's ``i2tce``).

    Use it when every identity has one text feature, from learned prompts or from a description,
    that stays fixed while the image tower is trained. The texts are a classifier that is not
    learned.

    .. math::
        \ell_i = -\sum_{c=1}^{C} q_{ic}
            \log \frac{e^{v_i \cdot t_c / \tau}}{\sum_{a=1}^{C} e^{v_i \cdot t_a / \tau}}
        \qquad q_{ic} = (1 - \varepsilon)\, [c = y_i] + \varepsilon / C

    Args:
        embeddings: Images :math:`v`, at the level that CLIP compares with text (projected).
        labels: Row in ``text_embeddings`` of each image's identity, in [0, C). A label out of range
            is a ``ValueError`` on the CPU, and the device's own assertion elsewhere, where reading
            labels would wait for the device.
        text_embeddings: Texts :math:`t`, one row for each identity of the training set. If they are
            fixed, pass them without gradient (``detach()``): then no more than 64 MiB of logits are
            held at a time, none of them until the backward pass, and no second derivative exists.
            With gradient the logits (N, C) are held.
        temperature: :math:`\tau > 0`, in units of the similarity. CLIP's own training ends at 0.01
            (a scale of 100), so the initial loss is that of CLIP's zero-shot classifier.
        label_smoothing: :math:`\varepsilon` in [0, 1), spread over all C identities.
        normalize: Compare by cosine; ``False`` compares by raw dot products.

    Returns:
        Mean over the rows; zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree, an option is out of its range, or (on the CPU) a label is.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 1])
        >>> # ln(1 + e) - 1
        >>> image_to_text_ce_loss(rows, labels, rows, temperature=1.0, label_smoothing=0)
        tensor(0.3133)

    Relations:
        Equals :func:`image_to_text_ce_definition`, the formula in a few lines. With one image for
        each text it is the image-to-text half of :func:`info_nce_loss`, smoothed. Where the texts
        are learned at the same time, :func:`supcon_loss` compares within the batch.

    Note:
        CLIP-ReID takes raw dot products: ``normalize=False, temperature=1.0`` is its loss, digit
        for digit. There the lengths of the features set the sharpness, and training can lower the
        loss by lengthening the embeddings, which no ranking by cosine sees; hence the default here.

    References:
        Li, Sun and Li, CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification
        without Concrete Text Labels, AAAI 2023, second stage, L_i2tce.
    """
    losses = _losses_of_rows(
        embeddings, labels, text_embeddings, temperature, label_smoothing, normalize
    )
    return losses.sum() / max(losses.shape[0], 1)


def _losses_of_rows(
    embeddings: Tensor,
    labels: Tensor,
    text_embeddings: Tensor,
    temperature: float,
    label_smoothing: float,
    normalize: bool,
) -> Float[Tensor, " n"]:
    _check_rows("image_to_text_ce_loss", embeddings, labels, text_embeddings)
    _check_options("image_to_text_ce_loss", temperature, label_smoothing)

    with torch.autocast(embeddings.device.type, enabled=False):
        rows = l2_normalize(embeddings) if normalize else at_least_float32(embeddings)
        rows = rows / temperature
        texts = at_least_float32(text_embeddings)
        if rows.shape[0] == 0:
            return (rows.sum(dim=1) + texts.sum()) * 0.0

        rows, texts = to_common_precision(rows, texts)
        return cross_entropy_over_classes(
            rows,
            labels,
            texts,
            label_smoothing=label_smoothing,
            normalize_classes=normalize,
        )


def _check_rows(owner: str, embeddings: Tensor, labels: Tensor, text_embeddings: Tensor) -> None:
    check_embeddings(owner, "embeddings", embeddings)
    check_labels(owner, "labels", labels, embeddings.shape[0], embeddings.device)
    check_embeddings(owner, "text_embeddings", text_embeddings)
    check_same_width(owner, "embeddings", embeddings, "text_embeddings", text_embeddings)

    remedy = "A label is a row of text_embeddings: relabel the training identities."
    check_label_range(owner, labels, text_embeddings.shape[0], remedy)


def _check_options(owner: str, temperature: float, label_smoothing: float) -> None:
    check_positive(owner, "temperature", temperature)
    check_fraction(owner, "label_smoothing", label_smoothing)


class ImageToTextCELoss(nn.Module):
    """Module of :func:`image_to_text_ce_loss`; it holds the options and has no parameters.

    Args:
        temperature: Above 0, in units of the similarity.
        label_smoothing: In [0, 1).
        normalize: Compare by cosine; ``False`` with ``temperature=1.0`` is CLIP-ReID's form.
        distributed: Average over the rows of all ranks. Each rank computes only its own rows, so
            the texts have to be the same on every rank.

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
        _check_options("ImageToTextCELoss", temperature, label_smoothing)

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
        """Compute :func:`image_to_text_ce_loss`."""
        with errors_on_all_ranks("ImageToTextCELoss", 1, distributed=self.distributed):
            losses = _losses_of_rows(
                embeddings,
                labels,
                text_embeddings,
                self.temperature,
                self.label_smoothing,
                self.normalize,
            )

        # The loss of a row needs no other row, so N numbers are sent and no embedding.
        if self.distributed:
            options = (self.extra_repr(), tuple(text_embeddings.shape))
            (losses,) = gather_batch("ImageToTextCELoss", losses, options=options)

        return losses.sum() / max(losses.shape[0], 1)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"temperature={self.temperature}, label_smoothing={self.label_smoothing}, "
            f"normalize={self.normalize}, distributed={self.distributed}"
        )
