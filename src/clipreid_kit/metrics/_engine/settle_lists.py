"""Settle lists of nearest rows where the error of their fast nearness leaves a boundary open."""

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.nearest_lists import flat_nonzero
from clipreid_kit._threads import OwnThreads
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_BLOCK = 1 << 21  # float32 elements of a block of nearness: 8 MB
_LISTS = 1 << 10  # lists that are scored again at a time
_CROWD = 64  # of this many items for each place of a list, copies are left out


class FastLists(NamedTuple):
    """Lists of the nearest rows by fast nearness.

    Attributes:
        rows: Range of the rows that have lists.
        columns: Range of the items: that of the rows, and no row is in its own list, or disjoint.
        nearness: (R, K), fast nearness of the items of each list, descending; no other item is
            nearer than the last one.
        items: (R, K), the items.
    """

    rows: slice
    columns: slice
    nearness: Tensor
    items: Tensor

    @property
    def num_available(self) -> int:
        """Number of items that a list could hold."""
        return self.num_columns - (self.rows == self.columns)

    @property
    def num_columns(self) -> int:
        """Number of rows that are items."""
        num_columns: int = self.columns.stop - self.columns.start
        return num_columns


def settle_lists(
    space: SimilaritySpace, lists: FastLists, boundaries: Sequence[int], threads: OwnThreads
) -> None:
    """Score rows again where the items on both sides of a boundary are closer than the error.

    Args:
        space: All rows.
        lists: Their first items are replaced where this changes them.
        boundaries: Lengths at which lists have to be right as sets; the last one is the largest.
        threads: Threads; each scores some lists at a time.
    """
    settler = _Settler(space, lists, boundaries[-1])
    open_lists = _open_lists(lists, boundaries, space.error[lists.rows])
    is_whole = settler.holds_all_candidates(open_lists)

    held = _parts(open_lists[is_whole], _LISTS)
    deque(threads.map(settler.settle_held, held), maxlen=0)

    searched = _parts(open_lists[~is_whole], max(1, _BLOCK // lists.num_columns))
    deque(threads.map(settler.settle_searched, searched), maxlen=0)


def _open_lists(lists: FastLists, boundaries: Sequence[int], error: Tensor) -> Tensor:
    """Return the numbers of the lists of which a boundary is not certain."""
    is_open = torch.zeros(error.shape, dtype=torch.bool, device=error.device)
    for boundary in boundaries:
        if 0 < boundary < lists.num_available:
            last, next_one = lists.nearness[:, boundary - 1], lists.nearness[:, boundary]
            is_open |= last.double() - next_one.double() <= 2 * error
    return torch.nonzero(is_open).flatten()


def _parts(numbers: Tensor, size: int) -> list[Tensor]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


class _Settler:
    """Put the nearest items of some lists in their exact order.

    Args:
        space: All rows.
        lists: The lists.
        count: Items of a list that are asked for.
    """

    def __init__(self, space: SimilaritySpace, lists: FastLists, count: int) -> None:
        self._space = space
        self._lists = lists
        self._count = count

        # an item below this is certainly none of the nearest
        lowest = (lists.nearness[:, count - 1].double() - 2 * space.error[lists.rows]).float()
        self._threshold = torch.nextafter(lowest, torch.full_like(lowest, -torch.inf))

    def holds_all_candidates(self, numbers: Tensor) -> Tensor:
        """Return whether lists hold all items that may be among the nearest, (L,) bool."""
        last = self._lists.nearness[numbers, -1]
        is_complete = self._lists.nearness.shape[1] == self._lists.num_available
        return (last < self._threshold[numbers]) | is_complete

    def settle_held(self, numbers: Tensor) -> None:
        """Score the items of some lists, which hold all that may be among the nearest."""
        columns, order = self._lists.items[numbers].sort(dim=1)
        nearness = self._lists.nearness[numbers].gather(1, order)

        is_near = nearness >= self._threshold[numbers, None]
        row, place = torch.nonzero(is_near, as_tuple=True)
        self._write_nearest(numbers, row.cpu().numpy(), columns[row, place].cpu().numpy())

    def settle_searched(self, numbers: Tensor) -> None:
        """Find the items that may be among the nearest of some lists, and score them."""
        rows, columns = self._lists.rows, self._lists.columns
        tile = self._space.nearness(numbers + rows.start, columns)
        if rows == columns:
            tile[torch.arange(len(numbers), device=tile.device), numbers] = -torch.inf

        flat = flat_nonzero(tile, self._threshold[numbers, None], strict=False).cpu().numpy()
        row, column = flat // tile.shape[1], flat % tile.shape[1]

        # of many equal rows only the first few can be among the neighbours
        if len(row) > _CROWD * self._count * len(numbers):
            is_early = self._num_earlier_copies[column] <= self._count
            row, column = row[is_early], column[is_early]
        self._write_nearest(numbers, row, column + columns.start)

    def _write_nearest(self, numbers: Tensor, row: IntArray, column: IntArray) -> None:
        """Write the nearest of some pairs, whose rows are numbered within ``numbers``."""
        row_in_space = numbers.cpu().numpy() + self._lists.rows.start
        similarities = self._space.exact(row_in_space[row], column)
        nearest = _nearest_of_each(row, column, similarities, len(numbers), self._count)

        items = self._lists.items
        items[numbers, : self._count] = torch.from_numpy(nearest).to(items.device)

    @cached_property
    def _num_earlier_copies(self) -> IntArray:
        """For each item the number of items before it that are equal to it."""
        return _count_earlier_copies(self._space.groups(self._lists.columns))


def _nearest_of_each(
    row: IntArray, column: IntArray, similarities: FloatArray, num_rows: int, count: int
) -> IntArray:
    """Return the nearest columns of each row (num_rows, count), the lower one first among equals.

    The pairs are in the order of rows and, within a row, of columns. Each row has at least
    ``count`` pairs.
    """
    begin = np.searchsorted(row, np.arange(num_rows))
    place = np.arange(len(row)) - begin[row]

    table = np.full((num_rows, int(place.max()) + 1), -np.inf)
    table[row, place] = similarities
    order = torch.from_numpy(table).sort(dim=1, descending=True, stable=True).indices
    nearest: IntArray = column[begin[:, None] + order[:, :count].numpy()]
    return nearest


def _count_earlier_copies(groups: IntArray) -> IntArray:
    """Count for each item the items before it that have the same number."""
    order = np.argsort(groups, kind="stable")
    ascending = groups[order]
    num_earlier = np.empty(len(groups), dtype=np.int64)
    first = np.searchsorted(ascending, ascending, side="left")
    num_earlier[order] = np.arange(len(groups)) - first
    return num_earlier
