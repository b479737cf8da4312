"""A gallery in a folder: embeddings and records, memory-mapped and searched exactly."""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._files import check_creatable, flush_folder
from clipreid_kit._read_files import exists, identity_of_file, is_folder
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.engines.approximate_search import approximate_searcher
from clipreid_kit.retrieval.engines.gallery_store import (
    Conditions,
    Reencode,
    StoreFacts,
    check_known,
)
from clipreid_kit.retrieval.engines.index_info import IndexInfo
from clipreid_kit.retrieval.exact.certified_search import nearest_rows
from clipreid_kit.retrieval.exact.device_rows import DeviceRows
from clipreid_kit.retrieval.search_forms import Found, Searcher
from clipreid_kit.retrieval.store.index_folder import (
    PresentRows,
    change,
    commit,
    new_approximate,
    new_removed,
    new_segment,
    read_snapshot,
    readable_errors,
)
from clipreid_kit.retrieval.store.manifest import NAME as MANIFEST
from clipreid_kit.retrieval.store.manifest import Manifest
from clipreid_kit.retrieval.store.segment import Segment

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class FolderStore:
    """An index in a folder, as a snapshot.

    Args:
        path: The folder.
        device: Where exact searches multiply; ``None`` for the CPU.

    Raises:
        ValueError: If there is no index, or a damaged one.
    """

    def __init__(self, path: Path, device: torch.device | None = None) -> None:
        self._path = path
        self._device = device
        self.reload()

    def __reduce__(self) -> tuple[type["FolderStore"], tuple[Path, torch.device | None]]:
        """Copies and pickles open the folder again: mapped files belong to one process."""
        return type(self), (self._path.absolute(), self._device)

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def facts(self) -> StoreFacts:
        """Facts about the embeddings, from the manifest."""
        manifest = self._snapshot.manifest
        return StoreFacts(
            manifest.dim,
            manifest.dtype,
            manifest.fingerprint,
            manifest.has_records,
            manifest.encoder,
            manifest.calibration,
        )

    @property
    def column_names(self) -> list[str]:
        """Columns of the records, those of every record first; none without records."""
        return self._snapshot.column_names

    def __len__(self) -> int:
        """Return the number of images that a search can find."""
        return self._snapshot.num_present

    def searcher(
        self,
        owner: str,
        conditions: Conditions,
        *,
        approximate: bool = False,
    ) -> Searcher:
        """Return a function that finds the nearest rows, exactly if not asked otherwise."""
        allowed = self._allowed(conditions)
        segments, on_device = self._snapshot.segments, self._on_device
        if approximate:
            structure = self._snapshot.approximate
            if structure is None:
                raise ValueError(
                    f"{owner}: {self.name} has no approximate structure. Build one by "
                    "index.build_approximate('HNSW32'), or leave out approximate=True."
                )
            return approximate_searcher(structure, segments, allowed)

        def find(queries: Tensor, count: int) -> Found:
            return Found(*nearest_rows(queries, segments, count, allowed, on_device))

        return find

    def keys(self, owner: str, conditions: Conditions) -> IntArray:  # noqa: ARG002
        """Return the keys of the images that meet all conditions, in the order of insertion."""
        allowed = self._allowed(conditions)
        keys = self._snapshot.keys
        return keys.copy() if allowed is None else keys[allowed]

    def keys_of_rows(self, rows: IntArray) -> IntArray:
        """Return the keys of rows."""
        return self._snapshot.keys[rows]

    def rows_of_keys(self, owner: str, keys: IntArray) -> IntArray:  # noqa: ARG002
        """Return the rows of images by key; -1 where there is none, or it was removed."""
        return self._snapshot.rows_of_keys(keys)

    def vectors(self, rows: IntArray) -> Tensor:
        """Return embeddings by row."""
        return self._snapshot.vectors(rows)

    def records(self, rows: IntArray) -> list[ImageRecord | None]:
        """Return the records of rows; ``None`` for each without records."""
        return self._snapshot.records(rows)

    def values(self, column: str, rows: IntArray) -> list[Any]:
        """Return the values of a column by row."""
        return self._snapshot.values(column, rows)

    def add(
        self, owner: str, embeddings: EmbeddingRows, records: Sequence[ImageRecord] | None
    ) -> IntArray:
        """Add rows; when this returns, they are on the disk."""
        with change(owner, self._path) as snapshot:
            old = snapshot.manifest
            if (old.dim, old.fingerprint) != (self.facts.dim, self.facts.fingerprint):
                raise ValueError(
                    f"{owner}: the index has been encoded by another model since it was opened. "
                    "Call reload, and encode the images by that model."
                )
            keys = np.arange(old.next_key, old.next_key + len(embeddings))
            entry = new_segment(self._path, old, embeddings, keys, records)
            next_key = old.next_key + len(embeddings)
            commit(self._path, old.next([*old.segments, entry], old.removed, next_key))

        self.reload()
        return keys

    def remove(self, owner: str, keys: IntArray) -> None:
        """Remove rows; when this returns, no search finds them."""
        with change(owner, self._path) as snapshot:
            rows = snapshot.rows_of_keys(keys)
            check_known(owner, keys, rows)

            is_removed = ~snapshot.is_present
            is_removed[rows] = True
            old = snapshot.manifest
            entry = new_removed(self._path, old, np.flatnonzero(is_removed))
            commit(self._path, old.next(old.segments, entry, old.next_key))

        self.reload()

    def compact(self, owner: str) -> None:
        """Write all rows that were not removed to one new file."""
        with change(owner, self._path) as snapshot:
            old = snapshot.manifest
            rows = np.flatnonzero(snapshot.is_present)
            segments = []
            approximate = old.approximate
            if len(rows):
                present = PresentRows(snapshot, rows)
                found = snapshot.records(rows)
                records = [record for record in found if record is not None]
                keys = snapshot.keys[rows]
                segments = [new_segment(self._path, old, present, keys, records or None)]
            if approximate is not None:
                factory, effort = approximate["factory"], approximate["effort"]
                written = [Segment(self._path, entry) for entry in segments]
                approximate = None
                if written:
                    approximate = new_approximate(owner, self._path, old, factory, effort, written)
            new = replace(old, approximate=approximate)
            commit(self._path, new.next(segments, None, old.next_key))

        self.reload()

    def build_approximate(self, owner: str, factory: str | None, effort: int | None) -> None:
        """Build an approximate structure of all rows of now, or delete it."""
        with change(owner, self._path) as snapshot:
            old = snapshot.manifest
            approximate = None
            if factory is not None:
                if snapshot.num_present == 0:
                    raise ValueError(f"{owner}: the index holds 0 images; add some first.")
                segments = snapshot.segments
                approximate = new_approximate(owner, self._path, old, factory, effort, segments)
            new = replace(old, approximate=approximate)
            commit(self._path, new.next(old.segments, old.removed, old.next_key))

        self.reload()

    def reembed(self, owner: str, reencode: Reencode) -> None:
        """Replace all vectors in one atomic step; nobody else can write meanwhile."""
        with change(owner, self._path) as snapshot:
            old = snapshot.manifest
            rows = np.flatnonzero(snapshot.is_present)
            records = [record for record in snapshot.records(rows) if record is not None]
            if not records:
                raise ValueError(f"{owner}: the index has no records, so no images to encode.")

            new = reencode(records)
            manifest = replace(
                old,
                dim=new.facts.dim,
                dtype=new.facts.dtype,
                fingerprint=new.facts.fingerprint,
                encoder=new.facts.encoder,
                calibration=new.facts.calibration,
                approximate=None,
            )
            keys = snapshot.keys[rows][new.positions]
            entry = new_segment(self._path, manifest, new.embeddings, keys, new.records)
            commit(self._path, manifest.next([entry], None, old.next_key))

        self.reload()

    def set_calibration(self, owner: str, values: dict[str, Any] | None) -> None:
        """Save a calibration in the manifest, or delete it."""
        with change(owner, self._path) as snapshot:
            old = snapshot.manifest
            new = replace(old, calibration=values)
            commit(self._path, new.next(old.segments, old.removed, old.next_key))

        self.reload()

    def verify(self) -> None:
        """Read and check all files of the index."""
        self._snapshot.check_all()

    def reload(self) -> None:
        """See what was written since the index was opened."""
        self._version = self._version_on_disk()  # before the snapshot, which may be newer
        self._snapshot = read_snapshot(self._path)
        self._on_device = None if self._device is None else DeviceRows(self._device)

    def newest(self) -> "FolderStore":
        """Return the index as it is now; a look at one file tells whether that is this one."""
        is_newest = self._version == self._version_on_disk()
        return self if is_newest else FolderStore(self._path, self._device)

    def info(self) -> IndexInfo:
        """Return the size, the columns and the state of the index."""
        snapshot, manifest = self._snapshot, self._snapshot.manifest
        sizes = [entry["size"] for entry in manifest.segments]
        removed_size = 0 if manifest.removed is None else manifest.removed["size"]
        entry = manifest.approximate
        approximate_size = 0 if entry is None else entry["file"]["size"]

        return IndexInfo(
            num_images=snapshot.num_present,
            num_removed=len(snapshot.keys) - snapshot.num_present,
            dim=manifest.dim,
            dtype=manifest.dtype,
            fingerprint=manifest.fingerprint,
            columns=tuple(snapshot.column_names),
            num_segments=len(manifest.segments),
            generation=manifest.generation,
            num_bytes=sum(sizes) + removed_size + approximate_size,
            encoder=manifest.encoder,
            is_calibrated=manifest.calibration is not None,
            approximate=None if entry is None else entry["factory"],
        )

    def _version_on_disk(self) -> tuple[int, ...]:
        """Return numbers that change with each change of the index; none if it has gone."""
        try:
            return identity_of_file(self._path / MANIFEST)
        except OSError:
            return ()

    def _allowed(self, conditions: Conditions) -> BoolArray | None:
        """Return for each row whether it may be found; ``None`` if all may."""
        allowed = self._snapshot.is_present
        for where in conditions:
            allowed = allowed & self._snapshot.meets(where)
        return None if allowed.all() else allowed


def folder_to_build(owner: str, path: Path) -> Path:
    """Return the folder that a new index goes to, with links followed.

    Raises:
        ValueError: If there is something already, or the folder cannot be made.
    """
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if exists(path) and (not is_folder(path) or any(path.iterdir())):
        raise ValueError(
            f"{owner}: {path} exists. Choose another store, or open the index and add to it."
        )

    with readable_errors(owner, path):
        check_creatable(path)
    return path


def build_folder(
    owner: str,
    path: Path,
    facts: StoreFacts,
    rows: EmbeddingRows,
    records: Sequence[ImageRecord] | None,
    approximate: str | None = None,
) -> FolderStore:
    """Write a new index, which appears when it is complete, and open it.

    Raises:
        ValueError: If it cannot be written, or faiss cannot build the approximate structure.
    """
    manifest = Manifest(
        facts.dim, facts.dtype, facts.fingerprint, facts.has_records, encoder=facts.encoder
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with readable_errors(owner, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(draft):
            keys = np.arange(len(rows))
            entry = new_segment(draft, manifest, rows, keys, records)
            if approximate is not None:
                segments = [Segment(draft, entry)]
                structure = new_approximate(owner, draft, manifest, approximate, None, segments)
                manifest = replace(manifest, approximate=structure)
            commit(draft, manifest.next([entry], None, len(rows)))
            if exists(path):
                path.rmdir()
            draft.rename(path)
            flush_folder(path.parent)

    return FolderStore(path)


@contextmanager
def _temporary_folder(path: Path) -> Iterator[None]:
    """Create a folder; delete it if what follows fails."""
    path.mkdir()
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
