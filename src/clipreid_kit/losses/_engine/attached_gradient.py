"""Join a value and a gradient that were computed without a graph to the graph of the inputs.

So first derivatives are exact, also those of ``torch.func.grad`` and ``vjp``. Second derivatives
would silently miss the loss, and raise an error; so do ``vmap`` and forward mode.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from clipreid_kit._checks import inside_a_transform

_NO_SECOND_DERIVATIVE = (
    "This loss has first derivatives only, no second derivative. "
    "Take its gradient without create_graph=True."
)


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

    # A compiled graph takes no tensor twice; it makes nothing of these copies.
    if torch.compiler.is_compiling():
        gradients = [given._replace(factor=given.factor.clone()) for given in gradients]

    attach = _AttachInTransform if inside_a_transform() else _Attach
    tensors = [tensor for gradient in gradients for tensor in gradient]
    attached: Tensor = attach.apply(value, *tensors)
    return attached


def attach_whole_gradients(
    value: Tensor, *gradients: tuple[Tensor | None, Tensor | None]
) -> Tensor:
    """Return ``value`` with the gradient of each pair (input, gradient); ``None`` for none."""
    one = torch.ones_like(value)
    present = []
    for tensor, gradient in gradients:
        if tensor is not None and gradient is not None:
            present.append(InputGradient(tensor, gradient, one))

    return attach_gradients(value, present)


class _Attach(torch.autograd.Function):
    """Outside of transforms; without ``setup_context``, for which torch inspects every call."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        value: Tensor,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*tensors[1::3], *tensors[2::3])
        return value.clone()

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        upstream: Tensor,
    ) -> tuple[Tensor | None, ...]:
        check_no_second_derivative()

        # Read once: torch.utils.checkpoint hands each saved tensor out a single time.
        saved = ctx.saved_tensors
        num_inputs = len(saved) // 2

        # One result for each argument of forward: the value, then (tensor, gradient, factor) each.
        results: list[Tensor | None] = [None]
        for gradient, factor in zip(saved[:num_inputs], saved[num_inputs:], strict=True):
            results += [gradient * (upstream * factor), None, None]

        return tuple(results)


class _AttachInTransform(torch.autograd.Function):
    """The same inside a transform of ``torch.func``."""

    @staticmethod
    def forward(value: Tensor, *tensors: Tensor) -> Tensor:  # noqa: ARG004 (for the backward pass)
        return value.clone()

    @staticmethod
    def setup_context(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        inputs: tuple[Tensor, ...],
        output: Tensor,  # noqa: ARG004 (torch's own signature)
    ) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        upstream: Tensor,
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        tensors = saved[0::3]

        results: list[Tensor | None] = [None]
        for gradient, factor in zip(saved[1::3], saved[2::3], strict=True):
            result = gradient * (upstream * factor)
            results += [_FirstDerivative.apply(result, *tensors), None, None]

        return tuple(results)


class _FirstDerivative(torch.autograd.Function):
    """A gradient that depends on the inputs of the loss, so that its own derivative is an error.

    The transforms of ``torch.func`` ask for a graph of every gradient, used or not.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, *tensors: Tensor) -> Tensor:  # noqa: ARG004 (for the graph)
        return gradient.clone()

    @staticmethod
    def setup_context(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        inputs: tuple[Tensor, ...],
        output: Tensor,
    ) -> None:
        """Keep nothing for the backward pass."""

    @staticmethod
    def backward(*arguments: object) -> NoReturn:  # noqa: ARG004 (torch's own signature)
        """Refuse: the second derivative would be wrong."""
        raise RuntimeError(_NO_SECOND_DERIVATIVE)


def check_no_second_derivative() -> None:
    """Raise RuntimeError in a backward pass that is to be differentiated again.

    That is one with ``create_graph=True``.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(_NO_SECOND_DERIVATIVE)


def check_reverse_mode(owner: str, *tensors: Tensor | None) -> None:
    """Raise RuntimeError under ``vmap`` and under forward-mode differentiation.

    There, a gradient that is computed with the value would be wrong or missing. ``torch.func.grad``
    and other transforms by backward passes work.
    """
    if torch.compiler.is_compiling():
        return
    if not inside_a_transform() and forward_ad._current_level < 0:  # noqa: SLF001 (no public way)
        return

    _ReverseModeOnly.apply(owner, *(tensor for tensor in tensors if tensor is not None))


class _ReverseModeOnly(torch.autograd.Function):
    """No operation, whose rules for ``vmap`` and for forward mode are errors."""

    @staticmethod
    def forward(owner: str, *tensors: Tensor) -> Tensor:  # noqa: ARG004 (for the errors)
        return torch.cat([tensor.flatten()[:0].float() for tensor in tensors])

    @staticmethod
    def setup_context(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        inputs: tuple[Any, ...],
        output: Tensor,  # noqa: ARG004 (torch's own signature)
    ) -> None:
        ctx.owner = inputs[0]

    @staticmethod
    def vmap(info: object, in_dims: object, owner: str, *tensors: Tensor) -> NoReturn:  # noqa: ARG004 (torch's own signature)
        raise RuntimeError(
            f"{owner}: torch.func.vmap is not supported, because the gradient is computed with the "
            "value. Call the loss once for each batch."
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> NoReturn:  # noqa: ANN401, ARG004 (torch's own context)
        definition = ctx.owner.removesuffix("_loss") + "_definition"
        raise RuntimeError(
            f"{ctx.owner}: forward-mode derivatives (jvp, jacfwd, hessian) are not supported, "
            f"because the gradient is computed with the value. Take {definition}, the same loss in "
            "plain autograd."
        )
