"""Losses of all pairs, by blocks of rows: the gradient is found on the way, and no N x M matrix outlives its block.

A loss here computes its value and its gradient together, without a graph, and :func:`attach` joins the two to the
graph of the inputs. So first derivatives in reverse mode are exact, and second derivatives raise an error.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
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
    def forward(ctx: Any, value: Tensor, *triples: Tensor) -> Tensor:  # noqa: ANN401 (torch's own context)
        ctx.save_for_backward(*triples[1::3], *triples[2::3])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (torch's own context)
        if torch.is_grad_enabled():  # a second derivative would silently miss this loss
            raise RuntimeError(
                "This loss has first derivatives only: call backward without create_graph."
            )
        number = len(ctx.saved_tensors) // 2
        gradients, factors = ctx.saved_tensors[:number], ctx.saved_tensors[number:]
        found = [
            gradient * (slope * factor) for gradient, factor in zip(gradients, factors, strict=True)
        ]
        return (None, *(part for one in found for part in (one, None, None)))


Part = tuple[Tensor, Tensor, Tensor]


def attach(value: Tensor, *parts: Part | None) -> Tensor:
    """Give ``value`` a gradient: of each (input, gradient, factor) gradient times factor."""
    known = [tensor for part in parts if part is not None for tensor in part]
    if not known:
        return value
    attached: Tensor = _Attach.apply(value, *known)
    return attached


def wanted(tensor: object) -> bool:
    """Whether a gradient with respect to ``tensor`` will be asked for."""
    return isinstance(tensor, Tensor) and tensor.requires_grad and torch.is_grad_enabled()


def exactly(on: torch.device) -> AbstractContextManager[object]:
    """Outside autocast. Entering a context costs as much as a small kernel, so it is not done where it does nothing."""
    enabled = torch.is_autocast_enabled(on.type)
    return torch.autocast(on.type, enabled=False) if enabled else nullcontext()


def in_one_precision(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32, or both in float64 where one of them is."""
    dtype = torch.promote_types(exact(first).dtype, exact(second).dtype)
    return first.to(dtype), second.to(dtype)


def add_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """``total`` + ``left`` @ ``right``, in place where there is a total."""
    return left @ right if total is None else total.addmm_(left, right)


def join(parts: list[Tensor]) -> Tensor:
    """Blocks one below the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class UnitRows:
    """Rows scaled to length 1 without a graph, as ``l2_normalize`` does, and the way back for a gradient."""

    def __init__(self, embeddings: Tensor) -> None:
        length = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        self._length = F.threshold(
            length, 0.0, torch.inf
        )  # a zero row stays zero and gets no gradient
        self._embeddings = embeddings
        self.rows = embeddings / self._length

    def back(self, gradient: Tensor, over: float | Tensor) -> Part:
        """What the embeddings get for a gradient at the unit rows, divided by ``over``. Overwrites its argument."""
        along = (self.rows * gradient).sum(dim=1, keepdim=True)
        return self.across(gradient.addcmul_(self.rows, along, value=-1), over)

    def across(self, gradient: Tensor, over: float | Tensor) -> Part:
        """The same of a gradient that is orthogonal to each row already."""
        return self._embeddings, gradient, (self._length * over).reciprocal()


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

    ``compute(start, stop)`` gives a block. The second run gets the same tensors where they were few enough to keep (a
    single block, or at most ``KEPT`` numbers and no ``size`` that the caller set), and else computes them again.
    """

    def __init__(
        self,
        compute: Callable[[int, int], Block],
        size: int | None,
        rows: int,
        columns: int,
        on: torch.device,
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
