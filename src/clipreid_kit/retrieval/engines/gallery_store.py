"""Protocol of the engines that keep the rows of a :class:`GalleryIndex`.

The index checks what callers pass, encodes images and shapes answers; a store keeps rows and finds
the nearest ones. A store numbers its rows in the order of insertion, so that "the lower row first
among equals" means the image that was added first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.engines.index_info import IndexInfo
from clipreid_kit.retrieval.search_forms import Searcher

IntArray = npt.NDArray[np.int64]

Conditions = Sequence[Mapping[str, object]]
"""Conditions by column, all of which an image has to meet; empty for every image."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Facts about the embeddings of an index.

    Attributes:
        dim: Width of the embeddings.
        dtype: ``float32`` or ``float64``.
        fingerprint: Names the encoder of the embeddings; ``None`` if unknown.
        has_records: Whether every embedding has a record.
        encoder: Where the encoder came from; ``None`` if unknown.
        calibration: Values of the calibration of similarities; ``None`` without one.
    """

    dim: int
    dtype: str
    fingerprint: str | None
    has_records: bool
    encoder: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None


class Reencoded(NamedTuple):
    """Images that were encoded again by another model.

    Attributes:
        positions: (N,), which of the records could be encoded.
        embeddings: (N, D).
        records: N records.
        facts: Of the new embeddings.
    """

    positions: IntArray
    embeddings: EmbeddingRows
    records: Sequence[ImageRecord]
    facts: StoreFacts


Reencode = Callable[[list[ImageRecord]], Reencoded]


@runtime_checkable
class GalleryStore(Protocol):
    """Rows of embeddings and records that can be searched and changed.

    A store that is open shows one state, until :meth:`reload` or a change of its own.
    """

    @property
    def name(self) -> str:
        """Name of the index for users: its folder or its URI, without secrets."""
        ...

    @property
    def path(self) -> Path | None:
        """Folder or file of the index; ``None`` on a server."""
        ...

    @property
    def facts(self) -> StoreFacts:
        """Facts about the embeddings of the index."""
        ...

    @property
    def column_names(self) -> list[str]:
        """Columns of the records, those of every record first; none without records."""
        ...

    def __len__(self) -> int:
        """Return the number of images that a search can find."""
        ...

    def searcher(
        self, owner: str, conditions: Conditions, *, approximate: bool = False
    ) -> Searcher:
        """Return a function that finds the nearest rows of queries among those which meet all.

        Args:
            owner: Name of the caller, for error messages.
            conditions: Conditions by column, checked to name columns that are there.
            approximate: Whether to use the approximate structure of the store.
        """
        ...

    def keys(self, owner: str, conditions: Conditions) -> IntArray:
        """Return the keys of the images that meet all conditions, in the order of insertion."""
        ...

    def keys_of_rows(self, rows: IntArray) -> IntArray:
        """Return the keys of rows that are in the store."""
        ...

    def rows_of_keys(self, owner: str, keys: IntArray) -> IntArray:
        """Return the rows of images by key; -1 where there is none, or it was removed."""
        ...

    def vectors(self, rows: IntArray) -> Tensor:
        """Return embeddings by row, (N, D)."""
        ...

    def records(self, rows: IntArray) -> list[ImageRecord | None]:
        """Return the records of rows; ``None`` for each without records."""
        ...

    def values(self, column: str, rows: IntArray) -> list[Any]:
        """Return the values of a column by row."""
        ...

    def add(
        self, owner: str, embeddings: EmbeddingRows, records: Sequence[ImageRecord] | None
    ) -> IntArray:
        """Add rows durably, and return their keys."""
        ...

    def remove(self, owner: str, keys: IntArray) -> None:
        """Remove rows durably.

        Raises:
            ValueError: If one of the keys is not there; the store is unchanged.
        """
        ...

    def compact(self, owner: str) -> None:
        """Drop removed rows from the files."""
        ...

    def build_approximate(self, owner: str, factory: str | None, effort: int | None) -> None:
        """Build an approximate structure of all rows, or delete it."""
        ...

    def reembed(self, owner: str, reencode: Reencode) -> None:
        """Replace all vectors in one step."""
        ...

    def set_calibration(self, owner: str, values: dict[str, Any] | None) -> None:
        """Keep a calibration with the rows, or delete it."""
        ...

    def verify(self) -> None:
        """Read and check everything."""
        ...

    def reload(self) -> None:
        """See what was written since the store was opened."""
        ...

    def newest(self) -> "GalleryStore":
        """Return the store as it is now: itself if nothing was written since it was opened."""
        ...

    def info(self) -> IndexInfo:
        """Return the size, the columns and the state of the store."""
        ...


def check_known(owner: str, keys: IntArray, rows: IntArray) -> None:
    """Raise ValueError if a store has no image with one of the keys.

    Args:
        owner: Name of the caller.
        keys: (N,), the keys that are wanted.
        rows: (N,), the row of each; -1 where there is none.
    """
    missing = keys[rows < 0][:5].tolist()
    if missing:
        names = ", ".join(map(str, missing))
        raise ValueError(f"{owner}: the index has no image with key {names}.")
