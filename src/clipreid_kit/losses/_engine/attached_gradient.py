"""Join a value and a gradient that were computed without a graph to the graph of the inputs.

So first derivatives are exact. Second derivatives would silently miss the loss, and raise an error.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor


class InputGradient(NamedTuple):
    """Gradient of the value by one input: ``gradient`` times ``factor``.

    The factor is kept apart because it is multiplied with the incoming gradient first, which is a
    column and not a matrix.
    """

    tensor: Tensor
    gradient: Tensor
    factor: Tensor


def needs_gradient(tensor: object) -> bool:
    """Whether autograd will ask for the gradient by ``tensor``."""
    return isinstance(tensor, Tensor) and tensor.requires_grad and torch.is_grad_enabled()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Switch autocast off where it is on.

    Entering a context costs as much as a small kernel, so it is not entered where it does nothing.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def attach_gradients(value: Tensor, gradients: Sequence[InputGradient]) -> Tensor:
    """Return ``value`` with the given gradients by its inputs."""
    if not gradients:
        return value

    tensors = [tensor for gradient in gradients for tensor in gradient]
    attached: Tensor = _Attach.apply(value, *tensors)
    return attached


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        value: Tensor,
        *tensors: Tensor,
    ) -> Tensor:
        gradients = tensors[1::3]
        factors = tensors[2::3]
        ctx.save_for_backward(*gradients, *factors)
        return value.clone()

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        upstream: Tensor,
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "This loss has first derivatives only: call backward without create_graph."
            )

        num_inputs = len(ctx.saved_tensors) // 2
        gradients = ctx.saved_tensors[:num_inputs]
        factors = ctx.saved_tensors[num_inputs:]

        # One result for each argument of forward: the value, then (tensor, gradient, factor) each.
        results: list[Tensor | None] = [None]
        for gradient, factor in zip(gradients, factors, strict=True):
            results += [gradient * (upstream * factor), None, None]

        return tuple(results)
