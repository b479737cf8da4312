"""Supervised contrastive loss: one modality, or image against text."""

from typing import Literal

import torch
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
from clipreid_kit.losses._blocks import TwoRuns, UnitRows, attach, check_block_size, in_one_precision, spans, wanted

Positives = Literal["mean", "sum"]
Block = tuple[Tensor, Tensor]


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

    Returns:
        Mean of :math:`\ell_i` over the anchors that have a positive. If none has, zero with zero gradient, still
        connected to the graph. No value is inspected, so there is no wait for the device.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given, or an option is
            out of its range.

    Example:
        >>> z = torch.eye(4)
        >>> supcon_loss(z, torch.tensor([0, 0, 1, 1]), temperature=1.0)  # ln 3: three equal candidates each
        tensor(1.0986)

    Relations:
        With one row for each label, ``contrast`` paired with it, this is one direction of :func:`info_nce_loss`.

    Note:
        CLIP-ReID's stage 1 uses raw features, temperature 1 and, in one modality, keeps the pair (i, i); here rows
        are normalised and the pair is left out, as in the paper. Across modalities row i of the contrast is a true
        pair and always stays.

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
            return _whole(rows, labels, 1 / temperature, positives)
        return _triangle(rows, labels, 1 / temperature, positives, block_size)
    check_embeddings("supcon_loss", "contrast", contrast)
    check_labels("supcon_loss", "contrast_labels", contrast_labels, contrast.shape[0])
    check_same_width("supcon_loss", "embeddings", embeddings, "contrast", contrast)
    anchors, candidates = in_one_precision(embeddings, contrast)
    if anchors.shape[0] == 0 or candidates.shape[0] == 0:
        return (anchors.sum() + candidates.sum()) * 0.0
    return _across(anchors, labels, candidates, contrast_labels, 1 / temperature, positives, block_size)


def _shares(count_N: Tensor, positives: Positives) -> tuple[Tensor, Tensor, Tensor]:
    """1 for an anchor with a positive; weights in its loss: of its logsumexp, and of each of its positives."""
    valid_N = count_N.clamp(max=1)
    if positives == "sum":
        return valid_N, count_N, torch.ones_like(count_N)
    return valid_N, valid_N, count_N.clamp(min=1).reciprocal()


def _rows(
    logits_BM: Tensor, positive_BM: Tensor, positives: Positives, *, among: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the losses of some anchors, how many have a positive, and the slope at the logits, which are overwritten.

    With ``among`` anchors and candidates are the same rows, and an anchor is neither its own positive nor its own
    negative.
    """
    if among:
        logits_BM.diagonal().fill_(-torch.inf)
        positive_BM.diagonal().fill_(False)  # noqa: FBT003 (torch's own signature)
    log_prob_BM = logits_BM.log_softmax(dim=1)
    valid_B, push_B, each_B = _shares(positive_BM.sum(dim=1).to(logits_BM.dtype), positives)
    pull_BM = torch.where(positive_BM, each_B[:, None], 0.0)
    if among:
        log_prob_BM.diagonal().fill_(0)  # -inf times a weight of 0 is not 0
    loss = -torch.dot(pull_BM.view(-1), log_prob_BM.view(-1))
    slope_BM = log_prob_BM.exp_().mul_(push_B[:, None]).sub_(pull_BM)
    if among:
        slope_BM.diagonal().fill_(0)
    return loss, valid_B.sum(), slope_BM


def _whole(embeddings: Tensor, labels: Tensor, scale: float, positives: Positives) -> Tensor:
    """One modality, in one block. The slope is added to its transpose: one product gives the gradient, and not two."""
    learn = wanted(embeddings)
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        unit = UnitRows(embeddings)
        logits_NN = (unit.rows @ unit.rows.T).mul_(scale)
        loss, usable, slope_NN = _rows(logits_NN, labels[:, None] == labels[None, :], positives, among=True)
        usable = usable.clamp(min=1)
        gradient = unit.back((slope_NN + slope_NN.T) @ unit.rows, usable / scale) if learn else None
    return attach(loss / usable, (embeddings, gradient))


def _across(
    anchors: Tensor,
    labels: Tensor,
    candidates: Tensor,
    candidate_labels: Tensor,
    scale: float,
    positives: Positives,
    block_size: int | None,
) -> Tensor:
    """Two sets of rows: a block of anchors holds all that its loss and its gradient need."""
    learn, learn_other = wanted(anchors), wanted(candidates)
    with torch.no_grad(), torch.autocast(anchors.device.type, enabled=False):
        first, second = UnitRows(anchors), UnitRows(candidates)
        parts, losses, counts = [], [], []
        to_second = torch.zeros_like(candidates) if learn_other else None
        for start, stop in spans(block_size, anchors.shape[0], candidates.shape[0], anchors.device):
            rows_BD = first.rows[start:stop]
            logits_BM = (rows_BD @ second.rows.T).mul_(scale)
            positive_BM = labels[start:stop, None] == candidate_labels[None, :]
            loss, usable, slope_BM = _rows(logits_BM, positive_BM, positives)
            losses.append(loss)
            counts.append(usable)
            if learn:
                parts.append(slope_BM @ second.rows)
            if to_second is not None:
                to_second.addmm_(slope_BM.T, rows_BD)
        usable = torch.stack(counts).sum().clamp(min=1)
        to_first = first.back(torch.cat(parts), usable / scale) if learn else None
        if to_second is not None:
            to_second = second.back(to_second, usable / scale)
        loss = torch.stack(losses).sum() / usable
    return attach(loss, (anchors, to_first), (candidates, to_second))


def _triangle(
    embeddings: Tensor, labels: Tensor, scale: float, positives: Positives, block_size: int | None
) -> Tensor:
    """One modality, by blocks. Logits are symmetric: each block of rows begins at its diagonal, and serves both sides.

    A row's logsumexp is known when the last block was seen, so that blocks are run over twice.
    """
    learn = wanted(embeddings)
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        unit, total = UnitRows(embeddings), embeddings.shape[0]
        rows = unit.rows

        def block(start: int, stop: int) -> Block:
            logits = (rows[start:stop] @ rows[start:].T).mul_(scale)
            positive = labels[start:stop, None] == labels[None, start:]
            logits.diagonal().fill_(-torch.inf)
            positive.diagonal().fill_(False)  # noqa: FBT003 (torch's own signature)
            return logits, positive

        blocks = TwoRuns(block, block_size, total, total, rows.device)
        count_N, pull_N, lse_N = rows.new_zeros(total), rows.new_zeros(total), rows.new_full((total,), -torch.inf)
        for start, stop, (logits, positive) in blocks.read():
            pull = torch.where(positive, logits, 0.0)
            count_N[start:stop] += positive.sum(dim=1)
            pull_N[start:stop] += pull.sum(dim=1)
            lse_N[start:stop] = torch.logaddexp(lse_N[start:stop], logits.logsumexp(dim=1))
            if stop < total:  # the same pairs, seen from the rows below
                wide = stop - start
                count_N[stop:] += positive[:, wide:].sum(dim=0)
                pull_N[stop:] += pull[:, wide:].sum(dim=0)
                lse_N[stop:] = torch.logaddexp(lse_N[stop:], logits[:, wide:].logsumexp(dim=0))
        valid_N, push_N, each_N = _shares(count_N, positives)
        usable = valid_N.sum().clamp(min=1)
        loss = (push_N * lse_N - each_N * pull_N).sum() / usable
        gradient = None
        if learn:
            gradient = torch.zeros_like(rows)
            shift_N = lse_N - push_N.log()  # exp(logit - shift) = push x softmax; of an anchor left out exp(-inf)
            for start, stop, (logits, positive) in blocks.overwrite():
                slope = (logits - shift_N[None, start:]).exp_()
                slope += logits.sub_(shift_N[start:stop, None]).exp_()
                slope -= torch.where(positive, each_N[start:stop, None] + each_N[None, start:], 0.0)
                gradient[start:stop].addmm_(slope, rows[start:])
                if stop < total:
                    gradient[stop:].addmm_(slope[:, stop - start :].T, rows[start:stop])
            gradient = unit.back(gradient, usable / scale)
    return attach(loss, (embeddings, gradient))


class SupConLoss(nn.Module):
    """:func:`supcon_loss` with its options held; no parameters.

    Args:
        temperature: Above 0, in units of cosine similarity.
        positives: ``"mean"`` (SupCon) or ``"sum"`` (PromptSG) over the positives of an anchor.
        distributed: Gather embeddings and labels from all ranks first, so that DDP's averaged gradient is that of
            the whole batch; does nothing where no process group runs.

    Raises:
        ValueError: If ``temperature`` is not above 0.

    Example:
        >>> images, texts, labels = torch.eye(2), torch.eye(2), torch.tensor([3, 7])
        >>> SupConLoss(temperature=1.0)(images, labels, texts, labels)  # ln(1 + e) - 1
        tensor(0.3133)
    """

    def __init__(self, temperature: float = 0.07, *, positives: Positives = "mean", distributed: bool = False) -> None:
        super().__init__()
        check_positive("SupConLoss", "temperature", temperature)
        check_choice("SupConLoss", "positives", positives, ("mean", "sum"))
        self.temperature = temperature
        self.positives: Positives = positives
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
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"temperature={self.temperature}, positives={self.positives!r}, distributed={self.distributed}"
