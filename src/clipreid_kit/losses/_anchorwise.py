"""Losses that are a mean over anchors of a function of the anchor's row of similarities or distances.

The matrix of all pairs is never held: blocks of anchors are computed, turned into a loss and its slope, and folded into
the gradient of the rows at once. Memory is a block and the gradients, and a block stays in the processor's cache. The
distances of a block are taken here, and not by ``distances``, because their slope is folded in by hand.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from clipreid_kit._checks import check_embeddings, check_labels, check_same_width, fail
from clipreid_kit.distances import exact, l2_normalize
from clipreid_kit.distributed import gather

BLOCK = 2**20  # pairs held at once: 4 MB in float32

Measure = Literal["similarity", "cosine", "euclidean"]
"""Cosine similarity, cosine distance 1 - similarity, or Euclidean distance of the rows as they are."""

Rule = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From a block of the matrix, its positives and its negatives (all b x M, not to be written into): the sum of the
block's losses, the number of losses to average over, and the slope of the sum by each entry of the block."""


def check_sides(
    owner: str,
    embeddings: Tensor,
    labels: Tensor,
    contrast: Tensor | None,
    contrast_labels: Tensor | None,
) -> None:
    """Require labelled anchors, and either a labelled contrast of the same width or none."""
    check_embeddings(owner, "embeddings", embeddings)
    check_labels(owner, "labels", labels, embeddings.shape[0])
    if contrast is not None and contrast_labels is not None:
        check_embeddings(owner, "contrast", contrast)
        check_labels(owner, "contrast_labels", contrast_labels, contrast.shape[0])
        check_same_width(owner, "embeddings", embeddings, "contrast", contrast)
    elif contrast is not None or contrast_labels is not None:
        remedy = "Give both for image-text, neither for one modality."
        raise fail(owner, "contrast and contrast_labels together", "only one of them", remedy)


def gather_sides(
    embeddings: Tensor, labels: Tensor, contrast: Tensor | None, contrast_labels: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """All four from all ranks."""
    return (
        gather(embeddings),
        gather(labels),
        None if contrast is None else gather(contrast),
        None if contrast_labels is None else gather(contrast_labels),
    )


def prepare(
    rows: Tensor, contrast: Tensor | None, measure: Measure
) -> tuple[Tensor, Tensor | None]:
    """Both sides in one exact precision, normalised where the measure is a cosine."""
    ready = exact if measure == "euclidean" else l2_normalize
    anchors, others = ready(rows), None if contrast is None else ready(contrast)
    if others is not None and others.dtype != anchors.dtype:
        anchors, others = anchors.double(), others.double()
    return anchors, others


def anchorwise_loss(
    embeddings: Tensor,
    labels: Tensor,
    contrast: Tensor | None,
    contrast_labels: Tensor | None,
    rule: Rule,
    measure: Measure,
) -> Tensor:
    """Mean that ``rule`` defines over the anchors; zero with graph where there is no pair."""
    with torch.autocast(embeddings.device.type, enabled=False):
        anchors, others = prepare(embeddings, contrast, measure)
        if anchors.shape[0] == 0 or (others is not None and others.shape[0] == 0):
            return nothing(anchors, others)
        loss: Tensor = _Anchorwise.apply(anchors, others, labels, contrast_labels, rule, measure)
        return loss


def nothing(anchors: Tensor, others: Tensor | None) -> Tensor:
    """A zero that is connected to the graph of both sides."""
    return (anchors.sum() if others is None else anchors.sum() + others.sum()) * 0.0


def scaled(gradients: Sequence[Tensor | None], slope: Tensor) -> tuple[Tensor | None, ...]:
    """Backward of a loss whose gradients were found on the way forward, which cannot be differentiated again."""
    if (
        torch.is_grad_enabled() and not torch.compiler.is_compiling()
    ):  # create_graph=True: refused, not wrong
        raise RuntimeError(
            "This loss has no second derivative. Take its gradient without create_graph=True."
        )
    return tuple(None if gradient is None else gradient * slope for gradient in gradients)


def log_sum(logits_bM: Tensor) -> tuple[Tensor, Tensor]:
    """Logsumexp of every row (-inf for a row of -inf) and its slope, the softmax (0 for such a row)."""
    top_b = logits_bM.amax(dim=1)
    share_bM = logits_bM.softmax(dim=1).masked_fill_((top_b == -torch.inf)[:, None], 0.0)
    # the largest share is exp(top - logsumexp), in [1 / M, 1]
    return torch.where(top_b == -torch.inf, top_b, top_b - share_bM.amax(dim=1).log()), share_bM


class _Anchorwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        anchors: Tensor,
        others: Tensor | None,
        labels: Tensor,
        other_labels: Tensor | None,
        rule: Rule,
        measure: Measure,
    ) -> Tensor:
        if measure == "euclidean":  # a common offset would cost digits, and changes no distance
            middle = anchors.mean(dim=0)
            anchors, others = anchors - middle, None if others is None else others - middle
        columns = anchors if others is None else others
        column_labels = labels if other_labels is None else other_labels
        wanted, other_wanted = ctx.needs_input_grad[:2]
        gradient = torch.zeros_like(anchors) if wanted else None
        other_gradient = torch.zeros_like(others) if others is not None and other_wanted else None
        total, count = anchors.new_zeros(()), labels.new_zeros((), dtype=torch.long)
        rows = max(1, BLOCK // columns.shape[0])
        for start in range(0, anchors.shape[0], rows):
            part = anchors[start : start + rows]
            matrix = _matrix(part, columns, measure)
            same = labels[start : start + rows, None] == column_labels
            different = ~same
            if others is None:  # an anchor is not its own positive
                same.diagonal(start).zero_()
            added, number, slope = rule(matrix, same, different)
            total, count = total + added, count + number
            if gradient is None and other_gradient is None:
                continue
            weights = _weights(slope, matrix, measure)
            if others is None and gradient is not None:
                if rows >= anchors.shape[0]:  # one block: both roles of a row in one product
                    gradient = _pull(weights + weights.T, anchors, anchors, measure)
                    break
                gradient += _pull(weights.T, anchors, part, measure)
            if gradient is not None:
                gradient[start : start + rows] += _pull(weights, part, columns, measure)
            if other_gradient is not None:
                other_gradient += _pull(weights.T, columns, part, measure)
        divisor = count.clamp(min=1)
        ctx.save_for_backward(
            None if gradient is None else gradient.div_(divisor),
            None if other_gradient is None else other_gradient.div_(divisor),
        )
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (torch's own context)
        return *scaled(ctx.saved_tensors, slopes[0]), None, None, None, None


def _matrix(part: Tensor, columns: Tensor, measure: Measure) -> Tensor:
    if measure == "similarity":
        return part @ columns.T
    if measure == "cosine":
        return torch.addmm(part.new_ones(()), part, columns.T, alpha=-1)
    squared = torch.addmm(columns.square().sum(dim=1), part, columns.T, alpha=-2)
    return squared.add_(part.square().sum(dim=1)[:, None]).clamp_(min=0).sqrt_()


def _weights(slope: Tensor, matrix: Tensor, measure: Measure) -> Tensor:
    if (
        measure == "euclidean"
    ):  # the slope of |a - b| by a is (a - b) / |a - b|, and 0 where they coincide
        return (slope / matrix).masked_fill_(matrix == 0, 0.0)
    return slope if measure == "similarity" else -slope


def _pull(weights: Tensor, rows: Tensor, columns: Tensor, measure: Measure) -> Tensor:
    """Gradient of the rows: weighted columns, or weighted differences from them."""
    if measure == "euclidean":
        return torch.addmm(weights.sum(dim=1)[:, None] * rows, weights, columns, alpha=-1)
    return weights @ columns
