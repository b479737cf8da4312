"""Blocks of rows of an (N, M) matrix that is never held as a whole."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor

# Elements of a block: on a CPU what its cache holds, elsewhere enough to hide a kernel launch.
CPU_BLOCK_ELEMENTS = 2**20
ACCELERATOR_BLOCK_ELEMENTS = 2**24

# Elements that may be kept for a second pass; a larger matrix is computed again.
KEPT_ELEMENTS = 2**24

Block = TypeVar("Block")


def row_blocks(
    block_size: int | None, num_rows: int, num_columns: int, device: torch.device
) -> list[tuple[int, int]]:
    """Start and stop of every block of rows; ``None`` chooses the size by the device."""
    if block_size is None:
        on_cpu = device.type == "cpu"
        elements = CPU_BLOCK_ELEMENTS if on_cpu else ACCELERATOR_BLOCK_ELEMENTS
        block_size = max(1, elements // num_columns)

    # Not part of the loop, so that a compiled loss takes batches of any size.
    if num_rows <= block_size:
        return [(0, num_rows)]

    starts = range(0, num_rows, block_size)
    return [(start, min(start + block_size, num_rows)) for start in starts]


def accumulate_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Add ``left @ right`` to ``total`` in place, or begin with it."""
    if total is None:
        return left @ right
    return total.addmm_(left, right)


def concatenate(blocks: list[Tensor]) -> Tensor:
    """Concatenate blocks along the rows; a single block is returned without a copy."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


class TwoPassBlocks(Generic[Block]):
    """Blocks of an (N, M) matrix, for an algorithm that passes over them twice.

    ``compute(start, stop)`` returns the block of these rows. The second pass gets the same tensors
    if they could be kept: if there is a single block, or if the caller did not set a ``block_size``
    and the matrix has at most ``KEPT_ELEMENTS`` elements. Otherwise it computes them again.
    """

    def __init__(
        self,
        compute: Callable[[int, int], Block],
        block_size: int | None,
        num_rows: int,
        num_columns: int,
        device: torch.device,
    ) -> None:
        self._compute = compute
        self._bounds = row_blocks(block_size, num_rows, num_columns, device)
        self._kept: list[Block] = []

        few_enough = block_size is None and num_rows * num_columns <= KEPT_ELEMENTS
        self._keep = len(self._bounds) == 1 or few_enough

    def first_pass(self) -> Iterator[tuple[int, int, Block]]:
        """Start, stop and block, in order; the blocks must not be changed."""
        for start, stop in self._bounds:
            block = self._compute(start, stop)
            if self._keep:
                self._kept.append(block)

            yield start, stop, block

    def second_pass(self) -> Iterator[tuple[int, int, Block]]:
        """The same blocks again; now they may be overwritten."""
        self._kept.reverse()
        for start, stop in self._bounds:
            block = self._kept.pop() if self._keep else self._compute(start, stop)
            yield start, stop, block
