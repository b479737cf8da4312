"""Rows that can be searched: what a search needs to know of the place that holds them."""

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._similarity.code_product import Codes
from clipreid_kit.retrieval.exact.code_grid import CodeGrid
from clipreid_kit.retrieval.exact.row_center import RowCenter

IntArray = npt.NDArray[np.int64]


@runtime_checkable
class RowSource(Protocol):
    """Rows (N, D) in memory or in a file, with their norms and 8-bit codes."""

    @property
    def grid(self) -> CodeGrid:
        """The grid of the codes."""
        ...

    @property
    def center(self) -> RowCenter | None:
        """The centre of nearly equal rows; ``None`` for rows that are spread."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def vectors(self, start: int, stop: int) -> Tensor:
        """Return a range of the rows."""
        ...

    def take(self, rows: IntArray) -> Tensor:
        """Return rows by number."""
        ...

    def norms(self, start: int, stop: int) -> Tensor:
        """Return the norms of a range of the rows, float64."""
        ...

    def codes(self, start: int, stop: int) -> Codes:
        """Return the codes of a range of the rows, contiguous."""
        ...

    def code_bounds(self, start: int, stop: int) -> tuple[float, float]:
        """Return the largest residual and the largest code norm of a range of the rows."""
        ...

    def along_center(self, start: int, stop: int) -> Tensor:
        """Return the products of a range of the unit rows with the centre, float64."""
        ...
