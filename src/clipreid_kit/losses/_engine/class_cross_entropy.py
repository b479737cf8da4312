"""Cross entropy of rows over many classes, in bounded memory."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import inside_a_transform
from clipreid_kit.distances import l2_normalize

# Logits held at once: 64 MiB in float32.
MAX_LOGITS = 2**24

# Classes that a processor's cache holds: 2 MiB of 512 float32 numbers each.
CLASSES_IN_CACHE = 1024


def cross_entropy_over_classes(
    rows: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    classes: Float[Tensor, "c d"],
    *,
    bias: Float[Tensor, " c"] | None = None,
    label_smoothing: float = 0.0,
    normalize_classes: bool = False,
) -> Float[Tensor, " n"]:
    r"""Cross entropy of every row over all classes, outside autocast.

    The logits are :math:`r_i \cdot w_c + b_c`.

    If the classes need no gradient, that of the rows is computed in the forward pass. The backward
    pass then needs neither the logits nor the classes, so memory is bounded, and the classes may
    change in between. Inside a transform of ``torch.func`` it is plain autograd, with all logits.

    Args:
        rows: Rows, divided by the temperature.
        labels: Row of ``classes`` for each row.
        classes: At least one, in the dtype of ``rows``.
        bias: Added to the logits of each class; only for classes without gradient. A bias of -inf
            leaves a class out.
        label_smoothing: Share of the target that is spread over all classes; only without a bias of
            -inf.
        normalize_classes: Divide each class by its length; a zero row stays zero. The (N, C) logits
            are divided, which is cheaper than a copy (C, D) where classes are many.

    Returns:
        One value for each row, infinite if the class of its label is left out.
    """
    with torch.autocast(rows.device.type, enabled=False):
        labels = labels.long()

        if inside_a_transform() or (torch.is_grad_enabled() and classes.requires_grad):
            if normalize_classes:
                classes = l2_normalize(classes)
            return _in_plain_autograd(rows, labels, classes, bias, label_smoothing)

        with_gradient = torch.is_grad_enabled() and rows.requires_grad
        losses: Tensor = _FixedClassCrossEntropy.apply(
            rows, labels, classes, bias, label_smoothing, normalize_classes, with_gradient
        )
        return losses


def _in_plain_autograd(
    rows: Tensor, labels: Tensor, classes: Tensor, bias: Tensor | None, label_smoothing: float
) -> Tensor:
    """The same values with all logits in memory, for any kind of derivative."""
    logits = rows @ classes.T
    if bias is not None:
        logits = logits + bias

    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


def _products_and_scale(rows: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Products of the rows with the classes (N, C), and 1 / length of each class, 0 for a zero row.

    On a CPU the classes are read once for both, as many at a time as its cache holds.
    """
    in_parts = classes.device.type == "cpu" and not torch.compiler.is_compiling()
    part_size = CLASSES_IN_CACHE if in_parts else classes.shape[0]

    if classes.shape[0] <= part_size:
        products = rows @ classes.T
        length = torch.linalg.vector_norm(classes, dim=1)
    else:
        products = rows.new_empty(rows.shape[0], classes.shape[0])
        length = rows.new_empty(classes.shape[0])
        for start in range(0, classes.shape[0], part_size):
            part = slice(start, start + part_size)
            length[part] = torch.linalg.vector_norm(classes[part], dim=1)
            products[:, part] = rows @ classes[part].T

    # The length of a zero row is taken as infinite.
    return products, F.threshold(length, 0.0, torch.inf).reciprocal()


def _losses(
    logits_BC: Tensor, labels_B1: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of each row, the exponentials of its logits and their sum; overwrites the logits."""
    logits_BC.sub_(logits_BC.amax(dim=1, keepdim=True))

    target_B1 = logits_BC.gather(1, labels_B1)
    if label_smoothing > 0:
        mean_B1 = logits_BC.mean(dim=1, keepdim=True)
        target_B1 = torch.lerp(target_B1, mean_B1, label_smoothing)

    # exp(-80) is lost in a sum of at least 1. Below exp(-87) numbers are denormal, and forty times
    # slower on a CPU.
    exponentials_BC = logits_BC.clamp_(min=-80).exp_()
    total_B1 = exponentials_BC.sum(dim=1, keepdim=True)
    return total_B1.log() - target_B1, exponentials_BC, total_B1


def _slope(
    exponentials_BC: Tensor, total_B1: Tensor, labels_B1: Tensor, label_smoothing: float
) -> Tensor:
    """Softmax minus the target, times the sum of the exponentials; overwrites these."""
    at_label_B1 = (label_smoothing - 1) * total_B1
    slope_BC = exponentials_BC.scatter_add_(1, labels_B1, at_label_B1)
    if label_smoothing > 0:
        slope_BC.sub_(total_B1 * (label_smoothing / exponentials_BC.shape[1]))
    return slope_BC


class _FixedClassCrossEntropy(torch.autograd.Function):
    """Cross entropy over fixed classes, a block of rows at a time; no logits are kept."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        rows: Tensor,
        labels: Tensor,
        classes: Tensor,
        bias: Tensor | None,
        label_smoothing: float,
        normalize_classes: bool,
        with_gradient: bool,
    ) -> Tensor:
        block_size = max(1, MAX_LOGITS // classes.shape[0])
        blocks = torch.split(rows, block_size)
        labels_of_blocks = torch.split(labels[:, None], block_size)
        losses = []
        gradients = []
        scale = None

        for rows_BD, labels_B1 in zip(blocks, labels_of_blocks, strict=True):
            if normalize_classes and scale is None:
                logits_BC, scale = _products_and_scale(rows_BD, classes)
            else:
                logits_BC = rows_BD @ classes.T

            if scale is not None:
                logits_BC.mul_(scale)
            if bias is not None:
                logits_BC.add_(bias)

            losses_B1, exponentials_BC, total_B1 = _losses(logits_BC, labels_B1, label_smoothing)
            losses.append(losses_B1[:, 0])

            if with_gradient:
                slope_BC = _slope(exponentials_BC, total_B1, labels_B1, label_smoothing)
                if scale is not None:
                    slope_BC.mul_(scale)
                gradients.append(slope_BC @ classes / total_B1)

        ctx.save_for_backward(*([torch.cat(gradients)] if with_gradient else []))
        return torch.cat(losses)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        upstream: Tensor,
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "Cross entropy over fixed classes has no second derivative. "
                "Take its gradient without create_graph=True."
            )

        (by_rows,) = ctx.saved_tensors
        return upstream[:, None] * by_rows, None, None, None, None, None, None
