"""Cross entropy of rows over many classes, in bounded memory."""

from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import inside_a_transform

# Logits held at once: 64 MiB in float32.
MAX_LOGITS = 2**24


def cross_entropy_over_classes(
    rows: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    classes: Float[Tensor, "c d"],
    scale: Float[Tensor, " c"] | None = None,
    bias: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, " n"]:
    r"""Cross entropy of every row over all classes, outside autocast.

    The logits are :math:`s_c\, (r_i \cdot w_c) + b_c`.

    If the classes need no gradient, that of the rows is computed in the forward pass. The backward
    pass then needs neither the logits nor the classes, so memory is bounded, and the classes may
    change in between. Inside a transform of ``torch.func`` it is plain autograd, with all logits.

    Args:
        rows: Rows, divided by the temperature.
        labels: Row of ``classes`` for each row.
        classes: At least one, in the dtype of ``rows``.
        scale: Factor of the logits of each class; only for classes without gradient.
        bias: Added to the logits of each class; only for classes without gradient. A bias of -inf
            leaves a class out.

    Returns:
        One value for each row, infinite if the class of its label is left out.
    """
    with torch.autocast(rows.device.type, enabled=False):
        labels = labels.long()

        if inside_a_transform():
            return _in_plain_autograd(rows, labels, classes, scale, bias)
        if torch.is_grad_enabled() and classes.requires_grad:
            return _in_plain_autograd(rows, labels, classes, None, None)

        with_gradient = torch.is_grad_enabled() and rows.requires_grad
        losses: Tensor = _FixedClassCrossEntropy.apply(
            rows, labels, classes, scale, bias, with_gradient
        )
        return losses


def _in_plain_autograd(
    rows: Tensor, labels: Tensor, classes: Tensor, scale: Tensor | None, bias: Tensor | None
) -> Tensor:
    """The same values with all logits in memory, for any kind of derivative."""
    logits = rows @ classes.T
    if scale is not None:
        logits = logits * scale
    if bias is not None:
        logits = logits + bias

    return -logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]


class _FixedClassCrossEntropy(torch.autograd.Function):
    """Cross entropy over fixed classes, a block of rows at a time; no logits are kept."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        rows: Tensor,
        labels: Tensor,
        classes: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        with_gradient: bool,
    ) -> Tensor:
        block_size = max(1, MAX_LOGITS // classes.shape[0])
        blocks = torch.split(rows, block_size)
        labels_of_blocks = torch.split(labels[:, None], block_size)
        losses = []
        gradients = []

        for rows_BD, labels_B1 in zip(blocks, labels_of_blocks, strict=True):
            logits_BC = rows_BD @ classes.T
            if scale is not None:
                logits_BC.mul_(scale)
            if bias is not None:
                logits_BC.add_(bias)
            logits_BC.sub_(logits_BC.amax(dim=1, keepdim=True))
            target_B1 = logits_BC.gather(1, labels_B1)

            # exp(-80) is lost in a sum of at least 1. Below exp(-87) numbers are denormal, and
            # forty times slower on a CPU.
            exponentials_BC = logits_BC.clamp_(min=-80).exp_()
            total_B1 = exponentials_BC.sum(dim=1, keepdim=True)
            losses.append((total_B1.log() - target_B1)[:, 0])

            # Softmax minus one at the label, times the total, which is divided out at the end.
            if with_gradient:
                slope_BC = exponentials_BC.scatter_add_(1, labels_B1, -total_B1)
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
        return upstream[:, None] * by_rows, None, None, None, None, None
