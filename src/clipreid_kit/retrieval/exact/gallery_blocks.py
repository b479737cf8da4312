"""The rows of several sources, numbered through, in blocks of bounded size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.code_product import Codes
from clipreid_kit.retrieval.exact.row_center import RowCenter
from clipreid_kit.retrieval.exact.row_source import RowSource

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class LoadedBlock(NamedTuple):
    """Rows of a block on a device.

    Attributes:
        vectors: (N, D).
        norms: (N,), float64.
        center: The centre of nearly equal rows; ``None`` for rows that are spread.
        along_center: (N,), products of the unit rows with the centre, float64.
    """

    vectors: Tensor
    norms: Tensor
    center: RowCenter | None
    along_center: Tensor | None

    def to(self, device: torch.device) -> "LoadedBlock":
        """Return the block on a device."""
        center, along = self.center, self.along_center
        if center is not None and along is not None:
            center, along = center._replace(point=center.point.to(device)), along.to(device)
        return LoadedBlock(self.vectors.to(device), self.norms.to(device), center, along)

    def chosen(self, positions: IntArray) -> "LoadedBlock":
        """Return some of the rows."""
        rows = torch.from_numpy(positions).to(self.vectors.device)
        along = None if self.along_center is None else self.along_center[rows]
        return LoadedBlock(self.vectors[rows], self.norms[rows], self.center, along)


class Block(NamedTuple):
    """Neighbouring rows of one source.

    Attributes:
        source: Where the rows are.
        start: First row, in the source.
        stop: One past the last row, in the source.
        first: Number of the first row, over all sources.
        positions: Rows that may be found, counted from ``start``; ``None`` for all of them.
    """

    source: RowSource
    start: int
    stop: int
    first: int
    positions: IntArray | None

    @property
    def num_rows(self) -> int:
        """Number of rows that may be found."""
        return self.stop - self.start if self.positions is None else len(self.positions)

    def rows(self) -> IntArray:
        """Return the numbers of the rows that may be found, over all sources."""
        if self.positions is None:
            return np.arange(self.first, self.first + self.stop - self.start)
        return self.first + self.positions

    def vectors(self) -> Tensor:
        """Return the rows that may be found."""
        if self.positions is None:
            return self.source.vectors(self.start, self.stop)
        return self.source.take(self.start + self.positions)

    def codes(self) -> Codes:
        """Return the codes of the rows that may be found, contiguous."""
        codes = self.source.codes(self.start, self.stop)
        return codes if self.positions is None else codes[self.positions]

    def load(self) -> LoadedBlock:
        """Return the rows that may be found, and what a product needs of them."""
        source = self.source
        norms = source.norms(self.start, self.stop)
        along = None
        if source.center is not None:
            along = source.along_center(self.start, self.stop)

        if self.positions is not None:
            chosen = torch.from_numpy(self.positions)
            norms = norms[chosen]
            along = None if along is None else along[chosen]
        return LoadedBlock(self.vectors(), norms, source.center, along)


class GalleryRows:
    """All rows of some sources.

    Args:
        sources: Where the rows are, in the order of their numbers.
        allowed: For each row, whether it may be found; ``None`` for all of them.
    """

    def __init__(self, sources: Sequence[RowSource], allowed: BoolArray | None = None) -> None:
        lengths = [len(source) for source in sources]
        self.sources = list(sources)
        self.starts = np.cumsum([0, *lengths])
        self.num_rows = int(self.starts[-1])
        self.allowed = None if allowed is None or allowed.all() else allowed
        self.num_allowed = self.num_rows if self.allowed is None else int(self.allowed.sum())

    @property
    def is_centred(self) -> bool:
        """Whether some of the rows are nearly equal, and have a centre."""
        return any(source.center is not None for source in self.sources)

    @property
    def reference(self) -> float:
        """A number near to the similarities of nearly equal rows; 0 for rows that are spread."""
        for source in self.sources:
            if source.center is not None:
                return float(source.along_center(0, 1)[0])
        return 0.0

    def blocks(self, size: int) -> list[Block]:
        """Return blocks of at most ``size`` rows that hold all rows which may be found."""
        found = []
        for source, first in zip(self.sources, self.starts[:-1].tolist(), strict=True):
            for start in range(0, len(source), size):
                stop = min(start + size, len(source))
                positions = self._positions(first + start, first + stop)
                block = Block(source, start, stop, first + start, positions)
                if block.num_rows > 0:
                    found.append(block)
        return found

    def take(self, rows: IntArray) -> Tensor:
        """Return rows by number, in this order."""
        if len(self.sources) == 1 or len(rows) == 0:
            return self.sources[0].take(rows)

        owner = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(owner, kind="stable")
        pieces = []
        for number in np.unique(owner).tolist():
            own = rows[order][owner[order] == number]
            pieces.append(self.sources[number].take(own - self.starts[number]))

        taken = torch.cat(pieces)
        out = torch.empty_like(taken)
        out[torch.from_numpy(order)] = taken
        return out

    def _positions(self, start: int, stop: int) -> IntArray | None:
        """Return the rows of a range that may be found, counted from its start."""
        if self.allowed is None or self.allowed[start:stop].all():
            return None
        return np.flatnonzero(self.allowed[start:stop])
