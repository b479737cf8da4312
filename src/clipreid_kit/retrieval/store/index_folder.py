"""The folder of an index: consistent snapshots for readers, and durable changes by one writer."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._files import flush_folder, reason_of
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows
from clipreid_kit.retrieval.store.approximate_file import (
    ApproximateEntry,
    ApproximateFile,
    write_approximate,
)
from clipreid_kit.retrieval.store.manifest import NAME as MANIFEST
from clipreid_kit.retrieval.store.manifest import Manifest, read_manifest
from clipreid_kit.retrieval.store.record_columns import FIELDS, RecordColumns
from clipreid_kit.retrieval.store.segment import EmbeddingReader, Segment, write_segment
from clipreid_kit.retrieval.store.tensor_file import (
    DamagedFileError,
    FileEntry,
    TensorFile,
    TensorFileWriter,
)
from clipreid_kit.retrieval.store.writer_lock import NAME as LOCK
from clipreid_kit.retrieval.store.writer_lock import writer_lock

_OWN_NAME = re.compile(
    rf"(segment|removed|approximate)-[0-9]{{8}}\.safetensors|\.{re.escape(MANIFEST)}\.[0-9a-f]{{16}}\.tmp"
)

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Snapshot:
    """An index at one moment; its files stay mapped, whatever is written later.

    Args:
        folder: Folder of the index.
        manifest: The manifest of that moment.

    Attributes:
        manifest: The manifest.
        segments: Embeddings and records, in the order of insertion.
        keys: (N,), the key of every row, ascending, with those of removed rows.
        is_present: (N,), whether a row has not been removed.
        approximate: The approximate structure; ``None`` without one.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.segments = [Segment(folder, entry) for entry in manifest.segments]
        parts = [np.empty(0, dtype=np.int64), *(segment.keys for segment in self.segments)]
        self.keys = np.concatenate(parts)

        self.is_present = np.ones(len(self.keys), dtype=bool)
        self._removed_file: TensorFile | None = None
        if manifest.removed is not None:
            self._removed_file = TensorFile(folder / manifest.removed["name"], manifest.removed)
            self.is_present[self._removed_file.read("rows")] = False

        self.approximate: ApproximateFile | None = None
        if manifest.approximate is not None:
            self.approximate = ApproximateFile(folder, manifest.approximate)

    @property
    def num_present(self) -> int:
        """Number of rows that have not been removed."""
        return int(self.is_present.sum())

    @property
    def column_names(self) -> list[str]:
        """Columns of the records, those of every record first; none without records."""
        names: list[str] = list(FIELDS) if self.manifest.has_records else []
        for segment in self.segments:
            names += segment.columns.names if segment.columns is not None else []
        return list(dict.fromkeys(names))

    def rows_of_keys(self, keys: IntArray) -> IntArray:
        """Return the rows of images by key; -1 where there is none, or it was removed."""
        if len(self.keys) == 0:
            return np.full(len(keys), -1)

        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((self.keys[rows] == keys) & self.is_present[rows], rows, -1)

    def vectors(self, rows: IntArray) -> Tensor:
        """Return embeddings by row."""
        return GalleryRows(self.segments).take(rows)

    def records(self, rows: IntArray) -> list[ImageRecord | None]:
        """Return the records of rows; ``None`` for each without records."""
        return self._collect(rows, lambda columns, own: columns.records(own))

    def values(self, column: str, rows: IntArray) -> list[Any]:
        """Return the values of a column by row."""
        return self._collect(rows, lambda columns, own: columns.values(column, own))

    def meets(self, where: Mapping[str, object]) -> BoolArray:
        """Return for each row whether its record meets conditions, by column."""
        parts = [np.empty(0, dtype=bool)]
        for segment in self.segments:
            met = np.ones(len(segment), dtype=bool)
            for name, condition in where.items():
                if segment.columns is not None:
                    met &= segment.columns.meets(name, condition, len(segment))
            parts.append(met)
        return np.concatenate(parts)

    def check_all(self) -> None:
        """Read and check all files.

        Raises:
            DamagedFileError: If one is not what was written.
        """
        for segment in self.segments:
            segment.file.check_all()
        if self._removed_file is not None:
            self._removed_file.check_all()
        if self.approximate is not None:
            self.approximate.file.check_all()

    def _collect(
        self, rows: IntArray, read: Callable[[RecordColumns, IntArray], Sequence[Any]]
    ) -> list[Any]:
        """Read something of rows from the segments that hold them, in the order of the rows."""
        found: list[Any] = [None] * len(rows)
        starts = np.cumsum([0, *(len(segment) for segment in self.segments)])
        for segment, start in zip(self.segments, starts[:-1].tolist(), strict=True):
            positions = np.flatnonzero((rows >= start) & (rows < start + len(segment)))
            if segment.columns is None or len(positions) == 0:
                continue

            values = read(segment.columns, rows[positions] - start)
            for position, value in zip(positions.tolist(), values, strict=True):
                found[position] = value
        return found


class PresentRows:
    """The embeddings of a snapshot that were not removed, to be written to another file.

    Args:
        snapshot: The snapshot.
        rows: Their rows, ascending.
    """

    def __init__(self, snapshot: Snapshot, rows: IntArray) -> None:
        self._gallery = GalleryRows(snapshot.segments)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def block(self, start: int, stop: int) -> Tensor:
        """Return a range of the embeddings."""
        return self._gallery.take(self._rows[start:stop])

    def norms(self, start: int, stop: int) -> Tensor:
        """Return the norms of a range of the embeddings, float64."""
        norms: Tensor = torch.linalg.vector_norm(self.block(start, stop).double(), dim=1)
        return norms


def read_snapshot(folder: Path) -> Snapshot:
    """Open the newest state of an index.

    Raises:
        ValueError: If the folder holds no index, or a damaged one.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            return Snapshot(folder, manifest)
        except FileNotFoundError as error:
            # a writer may have replaced the manifest, and then deleted the files of the old one
            if read_manifest(folder).generation == manifest.generation:
                raise DamagedFileError(
                    f"{folder}: the index lacks the file {Path(error.filename).name}. Restore the "
                    "index from a copy, or build it again."
                ) from None


@contextmanager
def change(owner: str, folder: Path) -> Iterator[Snapshot]:
    """Lock an index for one change, and yield its newest state.

    Files that a killed writer has left are deleted first. A change that fails leaves the index as
    it was, and no file of its own.

    Raises:
        ValueError: If another process writes to the index, or the disk is full.
    """
    with writer_lock(owner, folder), readable_errors(owner, folder):
        snapshot = read_snapshot(folder)
        delete_strays(folder, snapshot.manifest)
        try:
            yield snapshot
        finally:
            # of the state before, or of a change that failed
            delete_strays(folder, read_manifest(folder))


@contextmanager
def readable_errors(owner: str, folder: Path) -> Iterator[None]:
    """Turn errors of the operating system into a ValueError with the reason."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{owner}: cannot write to {folder}: {reason_of(error)}. The index is unchanged."
        ) from error


def new_segment(
    folder: Path,
    manifest: Manifest,
    embeddings: EmbeddingReader,
    keys: IntArray,
    records: Sequence[ImageRecord] | None,
) -> FileEntry:
    """Write a segment for the next generation of the manifest."""
    path = folder / f"segment-{manifest.generation + 1:08d}.safetensors"
    return write_segment(path, embeddings, manifest.dtype, keys, records)


def new_removed(folder: Path, manifest: Manifest, rows: IntArray) -> FileEntry:
    """Write the rows that are removed in the next generation of the manifest."""
    path = folder / f"removed-{manifest.generation + 1:08d}.safetensors"
    writer = TensorFileWriter(path, {"rows": ("I64", rows.shape)})
    try:
        writer.append("rows", rows)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def new_approximate(
    owner: str,
    folder: Path,
    manifest: Manifest,
    factory: str,
    effort: int | None,
    segments: Sequence[Segment],
) -> ApproximateEntry:
    """Write an approximate structure for the next generation of the manifest."""
    path = folder / f"approximate-{manifest.generation + 1:08d}.safetensors"
    return write_approximate(owner, path, factory, effort, segments)


def commit(folder: Path, manifest: Manifest) -> None:
    """Make the next state of an index the one that readers see, durably."""
    flush_folder(folder)
    manifest.write(folder)


def delete_strays(folder: Path, manifest: Manifest) -> None:
    """Delete files that do not belong to the index: of killed writers, and of older states."""
    kept = {MANIFEST, LOCK, *manifest.files}
    for path in folder.iterdir():
        if path.name in kept or not _OWN_NAME.fullmatch(path.name) or path.is_dir():
            continue
        try:
            path.unlink()
        except PermissionError:
            continue  # Windows keeps files that are mapped: deleted by a later writer
