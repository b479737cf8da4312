"""Random permutations of which any entry is computed without the others."""

import math
from collections.abc import Callable

import numpy as np
import torch

from clipreid_kit.samplers._integers import IntArray

NUM_PASSES = 4

_Move = Callable[[IntArray, IntArray], IntArray]


class RandomOrders:
    """Several random permutations of the numbers below a size: Feistel networks.

    A number is written as a row and a column of a grid that has at least ``size`` cells. A pass
    shifts the row by a random number that belongs to the column, then the column by one that
    belongs to the row, so it can be undone. What lands in a cell beyond ``size`` goes round again.

    Memory, and the time to construct, are of the order of the square root of the size.

    Args:
        size: Number of entries, at least 1.
        num_orders: Number of permutations.
        rng: Generator of the shifts.

    References:
        Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002, section 5.
    """

    def __init__(self, size: int, num_orders: int, rng: torch.Generator) -> None:
        self._size = size
        self._num_rows = math.isqrt(size - 1) + 1
        self._num_columns = -(-size // self._num_rows)

        of_columns = (NUM_PASSES, num_orders, self._num_columns)
        of_rows = (NUM_PASSES, num_orders, self._num_rows)
        self._row_shifts = torch.randint(
            self._num_rows, of_columns, generator=rng, device="cpu"
        ).numpy()
        self._column_shifts = torch.randint(
            self._num_columns, of_rows, generator=rng, device="cpu"
        ).numpy()

    def entry(self, order: IntArray, position: IntArray) -> IntArray:
        """Return the entries at some positions of some permutations, which are broadcast."""
        return self._walk(order, position, self._shuffle)

    def position(self, order: IntArray, entry: IntArray) -> IntArray:
        """Return the positions of some entries in some permutations, which are broadcast."""
        return self._walk(order, entry, self._unshuffle)

    def _walk(self, order: IntArray, cell: IntArray, move: _Move) -> IntArray:
        """Move the cells of the grid until they are below the size."""
        moved = move(order, cell)
        order = np.broadcast_to(order, moved.shape)

        while True:
            outside = np.nonzero(moved >= self._size)
            if len(outside[0]) == 0:
                return moved
            moved[outside] = move(order[outside], moved[outside])

    def _shuffle(self, order: IntArray, cell: IntArray) -> IntArray:
        """Do all passes, without going round."""
        row, column = np.divmod(cell, self._num_columns)
        first_column = order * self._num_columns
        first_row = order * self._num_rows

        for row_shift, column_shift in zip(self._row_shifts, self._column_shifts, strict=True):
            row = row + row_shift.take(first_column + column)
            row -= self._num_rows * (row >= self._num_rows)
            column = column + column_shift.take(first_row + row)
            column -= self._num_columns * (column >= self._num_columns)

        return row * self._num_columns + column

    def _unshuffle(self, order: IntArray, cell: IntArray) -> IntArray:
        """Undo all passes, the last one first, without going round."""
        row, column = np.divmod(cell, self._num_columns)
        first_column = order * self._num_columns
        first_row = order * self._num_rows

        for row_shift, column_shift in zip(
            self._row_shifts[::-1], self._column_shifts[::-1], strict=True
        ):
            column = column - column_shift.take(first_row + row)
            column += self._num_columns * (column < 0)
            row = row - row_shift.take(first_column + column)
            row += self._num_rows * (row < 0)

        return row * self._num_columns + column
