"""Losses of all pairs, by blocks of rows: the gradient is found on the way, and no N x M matrix outlives its block.

A loss here computes its value and its gradient together, without a graph, and :func:`attach` joins the two to the
graph of the inputs. So first derivatives in reverse mode are exact, and second derivatives raise an error.
"""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from clipreid_kit._checks import check_integer
from clipreid_kit.distances import exact

# numbers in a block: on a CPU what its cache holds, elsewhere enough to hide the start of a kernel
CACHED, LAUNCHED = 2**20, 2**24
# numbers that may be kept for the second pass where there is one; beyond that they are computed again
KEPT = 2**24

Block = TypeVar("Block")


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *pairs: Tensor) -> Tensor:  # noqa: ANN401 (torch's own context)
        ctx.save_for_backward(*pairs[1::2])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (torch's own context)
        if torch.is_grad_enabled():  # a second derivative would silently miss this loss
            raise RuntimeError("This loss has first derivatives only: call backward without create_graph.")
        found = [part for gradient in ctx.saved_tensors for part in (slope * gradient, None)]
        return (None, *found)


def attach(value: Tensor, *pairs: tuple[object, Tensor | None]) -> Tensor:
    """Give ``value`` the gradient of each (input, gradient); pairs without a gradient are left out."""
    known = [tensor for pair in pairs if pair[1] is not None for tensor in pair]
    if not known:
        return value
    attached: Tensor = _Attach.apply(value, *known)  # type: ignore[no-untyped-call]
    return attached


def wanted(tensor: object) -> bool:
    """Whether a gradient with respect to ``tensor`` will be asked for."""
    return isinstance(tensor, Tensor) and tensor.requires_grad and torch.is_grad_enabled()


def in_one_precision(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32, or both in float64 where one of them is."""
    dtype = torch.promote_types(exact(first).dtype, exact(second).dtype)
    return first.to(dtype), second.to(dtype)


class UnitRows:
    """Rows scaled to length 1 without a graph, as ``l2_normalize`` does, and the way back for a gradient."""

    def __init__(self, rows: Tensor) -> None:
        length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        self._length = F.threshold(length, 0.0, torch.inf)  # a zero row stays zero and gets no gradient
        self.rows = rows / self._length

    def back(self, gradient: Tensor, over: float | Tensor = 1.0) -> Tensor:
        """Gradient with respect to the rows as they came, divided by ``over``. Overwrites its argument."""
        along = (self.rows * gradient).sum(dim=1, keepdim=True)
        return gradient.addcmul_(self.rows, along, value=-1).div_(self._length * over)


def check_block_size(owner: str, block_size: int | None) -> None:
    """Require a whole number of rows, at least 1, or None."""
    if block_size is not None:
        check_integer(owner, "block_size", block_size, 1)


def spans(size: int | None, rows: int, columns: int, on: torch.device) -> list[tuple[int, int]]:
    """Start and stop of every block of rows of an (n, m) matrix; ``size`` None chooses by the device."""
    step = size or max(1, (CACHED if on.type == "cpu" else LAUNCHED) // columns)
    if rows <= step:  # apart from the loop, for a compiled loss that takes batches of any size
        return [(0, rows)]
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


class TwoRuns(Generic[Block]):
    """Runs twice over the blocks of an (n, m) matrix: once to read, once to overwrite.

    ``compute(start, stop)`` gives a block. The second run gets the same tensors where they were few enough to keep
    (a single block, or at most ``KEPT`` numbers and no ``size`` that the caller set), and otherwise computes them again.
    """

    def __init__(
        self, compute: Callable[[int, int], Block], size: int | None, rows: int, columns: int, on: torch.device
    ) -> None:
        self._compute = compute
        self._spans = spans(size, rows, columns, on)
        self._keep = len(self._spans) == 1 or (size is None and rows * columns <= KEPT)
        self._kept: list[Block] = []

    def read(self) -> Iterator[tuple[int, int, Block]]:
        """Start, stop and block, in order."""
        for start, stop in self._spans:
            block = self._compute(start, stop)
            if self._keep:
                self._kept.append(block)
            yield start, stop, block

    def overwrite(self) -> Iterator[tuple[int, int, Block]]:
        """The same again; the reader is free to change the blocks."""
        self._kept.reverse()
        for start, stop in self._spans:
            yield start, stop, self._kept.pop() if self._keep else self._compute(start, stop)
