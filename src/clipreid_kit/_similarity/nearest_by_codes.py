"""The nearest other rows of every row, by products of 8-bit codes with a proven error.

Rows lie in blocks of similar largest coordinates, and a block has one scale. Every block is first
compared with itself in float32: so each row has a full list from the start. Of two different
blocks, the product of their codes shows which pairs may enter a list, or be the farthest of a row.
These few pairs are scored in float32. So lists hold the same rows as those of a float32 product.
"""

import threading
from collections import deque
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.code_product import (
    LARGEST,
    OFFSET,
    CodeProduct,
    Levels,
    largest_number,
)
from clipreid_kit._similarity.float32_pass import product_error_bound
from clipreid_kit._similarity.nearest_lists import NewItems, enter, find_nearer, pad_items
from clipreid_kit._similarity.rescore import ignore_sparse_warning
from clipreid_kit._similarity.row_codes import RowNumbers, error_bounds, whole_numbers
from clipreid_kit._threads import OwnThreads

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Levels8 = npt.NDArray[np.uint8]

BLOCK = 2048  # rows of a block; a tile has the rows of one block and the columns of another
_TOP_LEVEL = 255
_ROUNDED = 0.51  # of a level: half, and what the product itself rounds in float32
_NARROWEST = 0.05  # range of all levels: in a narrower one, float32 would round more than that
_CROWDED = 12  # a tile is multiplied in float32 if more than one pair of so many may matter
_COMPARED = 64  # rows of a tile that are compared at a time: these stay in the cache
_RETRY = 8  # of so many tiles, one is tried with codes even if most others were crowded


class NearestRows(NamedTuple):
    """The nearest other rows of every row, and the farthest.

    Attributes:
        nearness: (N, K), float32 products, descending.
        items: (N, K), numbers of these rows; of equals the lower first.
        farthest: (N,), number of the farthest row.
    """

    nearness: Tensor
    items: Tensor
    farthest: Tensor


@lru_cache(maxsize=8)
def codes_are_exact(dim: int) -> bool:
    """Return whether products of codes are exact and fast here, also as levels."""
    largest = largest_number(dim)
    if largest == 0:
        return False

    rng = np.random.default_rng(0)
    codes = rng.integers(-LARGEST, LARGEST + 1, (67, dim))
    codes[0] = LARGEST
    numbers = rng.integers(-largest, largest + 1, (64, dim))
    numbers[0], numbers[1] = largest, -largest
    exact = (codes @ numbers.T).astype(np.float64)
    product = CodeProduct(numbers.astype(np.float32))

    # levels from the lowest product to the highest, and those of the upper tenth alone
    for lowest in (exact.min(), 0.9 * exact.max()):
        step = (exact.max() - lowest) / _TOP_LEVEL
        levels = Levels(1.0, step, round(-lowest / step))
        found = product.levels((codes + OFFSET).astype(np.uint8), levels).numpy()
        expected = (exact / step + levels.zero).clip(0, _TOP_LEVEL)
        if np.abs(found - expected).max() > _ROUNDED:
            return False
    return True


def nearest_by_codes(rows: Tensor, count: int, threads: OwnThreads) -> NearestRows:
    """Find the nearest other rows of every row, and the farthest, by the cosine.

    Args:
        rows: Unit rows (N, D), float32, on the CPU, with :func:`codes_are_exact` for D.
        count: Number of others, at least 1 and less than the rows of any block.
        threads: Threads; each compares pairs of blocks.
    """
    search = _CodeSearch(rows, count)
    with ignore_sparse_warning(), torch.autocast("cpu", enabled=False):
        deque(threads.map(search.compare_with_itself, search.blocks), maxlen=0)
        # the last blocks have most others before them
        deque(threads.map(search.compare_with_earlier, reversed(search.blocks)), maxlen=0)
    return search.result()


class _Pairs(NamedTuple):
    """Pairs of a tile whose products were computed in float32, by row, then by column."""

    row: IntArray
    column: IntArray
    value: Tensor


class _Bounds(NamedTuple):
    """Products of a tile with codes, and from which of them on a pair may matter.

    Attributes:
        products: (R, C), products as levels of 8 bits.
        near_row: (R,), lowest level of a pair that may enter the list of its row.
        near_column: (C,), the same for the list of its column.
        far_row: (R,), highest level of a pair that may be the farthest of its row.
        far_column: (C,), the same for its column.
    """

    products: Levels8
    near_row: Levels8
    near_column: Levels8
    far_row: Levels8
    far_column: Levels8


class _CodeSearch:
    """Lists of the nearest rows, in the order of the rows' largest coordinates.

    Args:
        rows: Unit rows (N, D), float32.
        count: Items of a list.
    """

    def __init__(self, rows: Tensor, count: int) -> None:
        total, dim = rows.shape
        self._rows = rows
        self._order = rows.abs().amax(dim=1).argsort()
        self._largest = largest_number(dim)
        self._error = 2 * product_error_bound(dim)  # of both products in float32

        num_blocks = -(-total // BLOCK)
        ends = [total * i // num_blocks for i in range(num_blocks + 1)]
        self.blocks = [slice(ends[i], ends[i + 1]) for i in range(num_blocks)]

        self._nearness = torch.full((total, count), -torch.inf, dtype=torch.float32, device="cpu")
        self._index = torch.zeros((total, count), dtype=torch.int64, device="cpu")
        self._least = np.full(total, np.inf, dtype=np.float32)
        self._farthest = np.zeros(total, dtype=np.int64)

        self._codes = np.empty((total, dim), dtype=np.uint8)
        self._scales = [1.0] * num_blocks
        self._residuals = np.empty(total)
        self._lock = threading.Lock()
        self._num_tiles = self._num_crowded = 0

    def compare_with_itself(self, block: slice) -> None:
        """Write the codes of a block, and fill its lists with its own rows."""
        rows = self._take(block)
        coded = whole_numbers(rows, LARGEST)
        self._codes[block] = coded.numbers.add_(OFFSET).to(torch.uint8).numpy()
        self._scales[self.blocks.index(block)] = coded.scale
        self._residuals[block] = coded.residuals

        products = torch.mm(rows, rows.T)
        least, farthest = products.min(dim=1)
        self._least[block] = least.numpy()
        self._farthest[block] = farthest.numpy() + block.start

        products.diagonal().fill_(-torch.inf)  # a row is no neighbour of itself
        values, columns = products.topk(self._nearness.shape[1], dim=1)
        self._nearness[block] = values
        self._index[block] = columns + block.start

    def compare_with_earlier(self, block: slice) -> None:
        """Compare the rows of all blocks before a block with those of the block."""
        columns = self._take(block)
        numbers = whole_numbers(columns, self._largest)
        product = CodeProduct(numbers.numbers.numpy())

        for earlier in self.blocks[: self.blocks.index(block)]:
            rows = self._take(earlier)
            if self._are_codes_worth_it():
                flat = self._find(earlier, block, numbers, product)
                is_crowded = len(flat) * _CROWDED > len(rows) * len(columns)
                self._count_tile(is_crowded)
                if not is_crowded:
                    pairs = _multiply_pairs(rows, columns, flat)
                    self._offer_pairs(earlier, block, pairs)
                    continue

            self._offer_tile(earlier, block, torch.mm(rows, columns.T))

    def result(self) -> NearestRows:
        """Return the lists by the numbers and in the order of the rows that were given."""
        nearness, index = torch.empty_like(self._nearness), torch.empty_like(self._index)
        # of equals the lower number first
        numbers, order = self._order[self._index].sort(dim=1)
        values, by_value = self._nearness.gather(1, order).sort(dim=1, descending=True, stable=True)
        nearness[self._order] = values
        index[self._order] = numbers.gather(1, by_value)

        farthest = torch.empty_like(self._order)
        farthest[self._order] = self._order[torch.from_numpy(self._farthest)]
        return NearestRows(nearness, index, farthest)

    def _take(self, part: slice) -> Tensor:
        return self._rows[self._order[part]]

    def _are_codes_worth_it(self) -> bool:
        is_mostly_crowded = 2 * self._num_crowded > self._num_tiles
        return not is_mostly_crowded or self._num_tiles % _RETRY == 0

    def _count_tile(self, is_crowded: bool) -> None:
        with self._lock:
            self._num_tiles += 1
            self._num_crowded += is_crowded

    def _find(
        self, rows: slice, columns: slice, numbers: RowNumbers, product: CodeProduct
    ) -> IntArray:
        """Return the flat numbers of the pairs of a tile that may enter a list, or be farthest.

        Args:
            rows: Block of the rows.
            columns: Block of the columns.
            numbers: Whole numbers of the columns.
            product: Multiplies codes with these.
        """
        bounds = self._bounds(rows, columns, numbers, product)
        products = bounds.products
        is_found = np.empty(products.shape, dtype=bool)

        for start in range(0, len(products), _COMPARED):
            part = slice(start, start + _COMPARED)
            near = np.minimum(bounds.near_row[part, None], bounds.near_column)
            far = np.maximum(bounds.far_row[part, None], bounds.far_column)
            np.greater_equal(products[part], near, out=is_found[part])
            is_found[part] |= products[part] <= far

        return np.flatnonzero(is_found)

    def _bounds(
        self, rows: slice, columns: slice, numbers: RowNumbers, product: CodeProduct
    ) -> _Bounds:
        """Multiply the codes of a tile, and bound the products that may matter."""
        # How far a product of codes may be from the float32 product, for each row and column.
        lost_by_rows = self._residuals[rows]
        lost_by_columns = numbers.residuals
        row_error = error_bounds(lost_by_rows, float(lost_by_columns.max())) + self._error
        column_error = error_bounds(float(lost_by_rows.max()), lost_by_columns) + self._error

        # A pair matters if it is nearer than the last of a list, or farther than the farthest.
        nearest_row = self._nearness[rows, -1].numpy() - row_error
        nearest_column = self._nearness[columns, -1].numpy() - column_error
        farthest_row = self._least[rows] + row_error
        farthest_column = self._least[columns] + column_error

        # The levels span the range from the lowest of these similarities to the highest.
        lowest = min(farthest_row.min(), farthest_column.min())
        highest = max(nearest_row.max(), nearest_column.max())
        step = max(float(highest - lowest), _NARROWEST) / _TOP_LEVEL
        unit = self._scales[self.blocks.index(rows)] * numbers.scale
        levels = Levels(unit, step, round(-lowest / step))

        return _Bounds(
            products=product.levels(self._codes[rows], levels).numpy(),
            near_row=_first_level(nearest_row, levels),
            near_column=_first_level(nearest_column, levels),
            far_row=_last_level(farthest_row, levels),
            far_column=_last_level(farthest_column, levels),
        )

    def _offer_pairs(self, rows: slice, columns: slice, pairs: _Pairs) -> None:
        """Update the lists of the rows and of the columns with some pairs."""
        values = pairs.value.numpy()
        new_of_rows = self._new_items(rows, pairs.row, pairs.column + columns.start, values)
        new_of_columns = self._new_items(columns, pairs.column, pairs.row + rows.start, values)

        with self._lock:
            for part, new in ((rows, new_of_rows), (columns, new_of_columns)):
                if new is not None:
                    enter(self._nearness[part], self._index[part], new, first_of_ties=False)
            row, column = pairs.row + rows.start, pairs.column + columns.start
            self._lower_least(row, column, values)
            self._lower_least(column, row, values)

    def _new_items(
        self, part: slice, owner: IntArray, item: IntArray, value: Float32Array
    ) -> NewItems | None:
        """Return the pairs that may enter the lists of a range."""
        is_new = value > self._nearness[part, -1].numpy()[owner]
        owner, item, value = owner[is_new], item[is_new], value[is_new]

        # numbers of 16 bits are sorted by their digits, several times as fast
        order = np.argsort(owner.astype(np.uint16), kind="stable")
        return pad_items(
            torch.from_numpy(owner[order]),
            torch.from_numpy(item[order]),
            torch.from_numpy(value[order]),
            part.stop - part.start,
        )

    def _offer_tile(self, rows: slice, columns: slice, tile: Tensor) -> None:
        """Update the lists of the rows and of the columns with all products of a tile."""
        new_of_rows = find_nearer(
            self._nearness[rows], tile, columns.start, by_row=True, empty=False
        )
        new_of_columns = find_nearer(
            self._nearness[columns], tile, rows.start, by_row=False, empty=False
        )
        least_of_rows, column = tile.min(dim=1)
        least_of_columns, row = tile.min(dim=0)

        with self._lock:
            for part, new in ((rows, new_of_rows), (columns, new_of_columns)):
                if new is not None:
                    enter(self._nearness[part], self._index[part], new, first_of_ties=False)
            own = np.arange(rows.start, rows.stop)
            self._lower_least(own, column.numpy() + columns.start, least_of_rows.numpy())
            own = np.arange(columns.start, columns.stop)
            self._lower_least(own, row.numpy() + rows.start, least_of_columns.numpy())

    def _lower_least(self, row: IntArray, other: IntArray, value: Float32Array) -> None:
        """Remember pairs of a row and a farther one than before."""
        is_lower = value < self._least[row]
        row, other, value = row[is_lower], other[is_lower], value[is_lower]

        # the last of several assignments stays: that of the lowest
        order = np.argsort(-value, kind="stable")
        self._least[row[order]] = value[order]
        self._farthest[row[order]] = other[order]


def _first_level(similarity: FloatArray, levels: Levels) -> Levels8:
    """Return the lowest levels that products of at least these similarities may have."""
    level = np.ceil(similarity / levels.step + levels.zero - _ROUNDED)
    return level.clip(0, _TOP_LEVEL).astype(np.uint8)


def _last_level(similarity: FloatArray, levels: Levels) -> Levels8:
    """Return the highest levels that products of at most these similarities may have."""
    level = np.floor(similarity / levels.step + levels.zero + _ROUNDED)
    return level.clip(0, _TOP_LEVEL).astype(np.uint8)


def _multiply_pairs(rows: Tensor, columns: Tensor, flat: IntArray) -> _Pairs:
    """Multiply the pairs of a tile with these flat numbers, in float32."""
    row, column = np.divmod(flat, len(columns))
    begin = row.searchsorted(np.arange(len(rows) + 1))
    wanted = torch.sparse_csr_tensor(
        torch.from_numpy(begin),
        torch.from_numpy(column),
        torch.zeros(len(flat), dtype=torch.float32, device="cpu"),
        size=(len(rows), len(columns)),
        device="cpu",
        check_invariants=False,
    )
    products = torch.sparse.sampled_addmm(wanted, rows, columns.T, beta=0.0)
    return _Pairs(row, column, products.values())
