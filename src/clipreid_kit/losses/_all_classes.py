"""What the losses over all identities share: labels in range, and cross-entropy over many classes in bounded memory."""

from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from clipreid_kit._checks import fail

MAX_LOGITS = 2**24  # of a block of rows: 64 MB in float32


def check_class_labels(owner: str, labels: Tensor, num_classes: int, remedy: str) -> None:
    """Require labels in [0, num_classes), where looking at them costs no wait: on the CPU, and not while compiling."""
    if labels.device.type != "cpu" or labels.numel() == 0 or torch.compiler.is_compiling():
        return
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        raise fail(
            owner, f"labels in [0, {num_classes})", f"labels from {lowest} to {highest}", remedy
        )


class _CrossEntropy(torch.autograd.Function):
    """Rows against constant classes, a block of rows at a time; of the logits nothing is kept for the backward pass."""

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
        losses, gradients = [], []
        size = max(1, MAX_LOGITS // classes.shape[0])
        for block, label in zip(
            torch.split(rows, size), torch.split(labels[:, None], size), strict=True
        ):
            logits = block @ classes.T
            if scale is not None:
                logits.mul_(scale)
            if bias is not None:
                logits.add_(bias)
            logits.sub_(logits.amax(dim=1, keepdim=True))
            own = logits.gather(1, label)
            # e^-80 is lost in a sum of at least 1; below e^-87 are denormal numbers, forty times slower on a CPU
            total = logits.clamp_(min=-80).exp_().sum(dim=1, keepdim=True)
            losses.append((total.log() - own)[:, 0])
            if (
                with_gradient
            ):  # softmax minus one at the label, times the sum that it is still to be divided by
                logits.scatter_add_(1, label, -total)
                if scale is not None:
                    logits.mul_(scale)
                gradients.append(logits @ classes / total)
        ctx.save_for_backward(*([torch.cat(gradients)] if with_gradient else []))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (torch's own context)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "cross-entropy over fixed classes has no second derivative: leave out create_graph=True."
            )
        (of_rows,) = ctx.saved_tensors
        return gradient[:, None] * of_rows, None, None, None, None, None


def cross_entropy_over_classes(
    rows: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    classes: Float[Tensor, "c d"],
    scale: Float[Tensor, " c"] | None = None,
    bias: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, " n"]:
    r"""Cross-entropy of every row, with logits :math:`s_c\, (r_i \cdot w_c) + b_c`, outside autocast.

    For constant classes the gradient of the rows is computed in the forward pass, so that neither the logits nor the
    classes are needed in the backward pass: memory is bounded, and the classes may change in between.

    Args:
        rows: Temperature applied.
        labels: Row of ``classes`` for each row.
        classes: At least one; of the dtype of ``rows``.
        scale: Factor of each class; only for constant classes.
        bias: Added to the logits of each class; only for constant classes. -inf leaves a class out.

    Returns:
        One value for each row, infinite where the class of a label is left out.
    """
    with torch.autocast(rows.device.type, enabled=False):
        if not (torch.is_grad_enabled() and classes.requires_grad):
            with_gradient = torch.is_grad_enabled() and rows.requires_grad
            losses: Tensor = _CrossEntropy.apply(
                rows, labels.long(), classes, scale, bias, with_gradient
            )
            return losses
        return -(rows @ classes.T).log_softmax(dim=1).gather(1, labels.long()[:, None])[:, 0]
