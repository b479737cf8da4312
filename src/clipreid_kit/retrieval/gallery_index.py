"""A gallery in a folder: embeddings and records, searched exactly."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer
from clipreid_kit._files import flush_folder
from clipreid_kit._read_files import exists, is_folder
from clipreid_kit._similarity.as_array import as_array
from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.data.records import ImageRecord, check_records
from clipreid_kit.retrieval.calibration.calibration import Calibration
from clipreid_kit.retrieval.encoding.encoded_images import SkippedImage
from clipreid_kit.retrieval.encoding.encoder import Encoder, OnError
from clipreid_kit.retrieval.encoding.image_inputs import ImageInput
from clipreid_kit.retrieval.remembered_encoder import (
    check_encoder,
    find_encoder,
    source_to_remember,
)
from clipreid_kit.retrieval.search_forms import (
    Found,
    MaskedQueries,
    find_each,
    find_nearest_to_any,
    group_by_identity,
    mean_of_unit_rows,
)
from clipreid_kit.retrieval.search_result import SearchResult
from clipreid_kit.retrieval.store.conditions import Not
from clipreid_kit.retrieval.store.index_folder import (
    PresentRows,
    change,
    commit,
    new_removed,
    new_segment,
    read_snapshot,
    readable_errors,
)
from clipreid_kit.retrieval.store.manifest import Manifest
from clipreid_kit.retrieval.store.record_columns import check_column_names

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_CHECKED = 1 << 24  # elements of a file that are checked at once


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """Facts about an index.

    Attributes:
        num_images: Images that a search can find.
        num_removed: Images that were removed, and that :meth:`GalleryIndex.compact` would drop.
        dim: Width of the embeddings.
        dtype: Type of the embeddings, ``float32`` or ``float64``.
        fingerprint: Names the encoder of the embeddings; ``None`` if none was given.
        columns: Columns that ``where`` takes.
        num_segments: Files of embeddings: one for each ``add`` since the last ``compact``.
        generation: Counts the changes of the index.
        num_bytes: Size of its files.
        encoder: Where the encoder came from, as its ``source`` says it; ``None`` if
            unknown.
        is_calibrated: Whether searches have probabilities.
    """

    num_images: int
    num_removed: int
    dim: int
    dtype: str
    fingerprint: str | None
    columns: tuple[str, ...]
    num_segments: int
    generation: int
    num_bytes: int
    encoder: Mapping[str, Any] | None
    is_calibrated: bool


class GalleryIndex:
    """Search a gallery of embeddings exactly, from a folder that is memory-mapped.

    Make one with :meth:`build`, and open it again with :meth:`open`. The nearest images are those
    of the largest exact cosine similarity, as :func:`evaluate_reid` defines it; among equals the
    image that was added first comes first. The answer is the same for any number of threads and
    any other queries beside.

    An open index is a snapshot: it does not see what others write later, until :meth:`reload`.

    With an :class:`Encoder` it takes images and texts instead of vectors: :meth:`search_image`,
    :meth:`search_text`, and records alone in :meth:`build` and :meth:`add`. It remembers where the
    encoder came from, and opens it again when it is needed.

    Args:
        path: Folder of the index.
        encoder: Its encoder, if the index cannot find it or another device is wanted.

    Attributes:
        skipped: Images that the last ``build``, ``add`` or ``reembed`` of this object left out
            because they could not be read.

    Raises:
        ValueError: If there is no index, a damaged one, or one of another model than the encoder.

    Example:
        >>> import tempfile
        >>> rows = np.eye(3, dtype=np.float32)
        >>> records = [ImageRecord(f"{name}.jpg", name, camera=1) for name in ("ann", "bob", "cem")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     index = GalleryIndex.build(rows, records, store=f"{folder}/gallery.index")
        ...     result = index.search([0.6, 0.8, 0.0], k=2)
        ...     index.add(rows[:1] + rows[1:2], [ImageRecord("dee.jpg", "dee", camera=2)]).tolist()
        ...     after = index.search([0.6, 0.8, 0.0], k=1, where={"camera": [1, 2]})
        [3]
        >>> [(hit.record.identity, round(hit.similarity, 2)) for hit in result[0]]
        [('bob', 0.8), ('ann', 0.6)]
        >>> after[0][0].record.path, round(after[0][0].similarity, 2)
        ('dee.jpg', 0.99)
    """

    def __init__(self, path: str | os.PathLike[str], *, encoder: Encoder | None = None) -> None:
        self.path = Path(path)
        self.skipped: tuple[SkippedImage, ...] = ()
        self._snapshot = read_snapshot(self.path)
        self._encoder = encoder
        if encoder is not None:
            check_encoder("GalleryIndex.open", self.path, self._snapshot.manifest, encoder)

    @classmethod
    def build(
        cls,
        embeddings: Encoder | Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
        records: Sequence[ImageRecord] | None = None,
        *,
        store: str | os.PathLike[str],
        fingerprint: str | None = None,
        on_error: OnError = "raise",
    ) -> "GalleryIndex":
        """Write an index to a new folder, and open it.

        The folder appears when it is complete. Embeddings of a memory-mapped file are read a block
        at a time.

        Args:
            embeddings: (N, D), float16 to float64; kept as float32, or as float64 if they are that.
                Or an :class:`Encoder`, which encodes the records.
            records: N records; ``None`` for an index without.
            store: The folder, which must not exist or be empty.
            fingerprint: Names the encoder of the embeddings. Searches that name another are
                refused. That of an :class:`Encoder` is its own.
            on_error: With an encoder: ``"raise"`` stops at an image that cannot be read,
                ``"skip"`` leaves it out, and the index names it as ``skipped``.

        Raises:
            ValueError: If there are no embeddings, one has NaN or infinity, records differ in
                number, the folder has other files or cannot be written, or an image cannot be read.
        """
        owner = "GalleryIndex.build"
        path = Path(store)
        if path.is_symlink():
            path = Path(os.path.realpath(path))
        if exists(path) and (not is_folder(path) or any(path.iterdir())):
            raise ValueError(
                f"{owner}: {path} exists. Choose another store, or open the index and add to it."
            )
        if isinstance(embeddings, Encoder):
            return cls._build_encoded(embeddings, records, path, fingerprint, on_error)

        rows = _embedding_rows(owner, "embeddings", embeddings)
        _check_records(owner, rows, records)
        dtype = "float64" if rows.dtype == torch.float64 else "float32"
        manifest = Manifest(rows.shape[1], dtype, fingerprint, records is not None)
        cls._write_new(path, manifest, rows, records)
        return cls(path)

    @classmethod
    def _build_encoded(
        cls,
        encoder: Encoder,
        records: Sequence[ImageRecord] | None,
        path: Path,
        fingerprint: str | None,
        on_error: OnError,
    ) -> "GalleryIndex":
        """Encode records, and write an index of them."""
        owner = "GalleryIndex.build"
        if records is None:
            raise ValueError(f"{owner}: an encoder needs records to encode; pass them, too.")
        if fingerprint is not None:
            raise ValueError(f"{owner}: leave out fingerprint=; the encoder has its own.")

        encoded = encoder.encode_records(records, on_error=on_error)
        rows = _embedding_rows(owner, "embeddings", encoded.embeddings)
        manifest = Manifest(
            rows.shape[1],
            "float32",
            encoder.fingerprint,
            has_records=True,
            encoder=source_to_remember(encoder, path),
        )
        cls._write_new(path, manifest, rows, encoded.records)
        index = cls(path, encoder=encoder)
        index.skipped = tuple(encoded.skipped)
        return index

    @staticmethod
    def _write_new(
        path: Path,
        manifest: Manifest,
        rows: EmbeddingRows,
        records: Sequence[ImageRecord] | None,
    ) -> None:
        """Write a new index, which appears when it is complete."""
        owner = "GalleryIndex.build"
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        with readable_errors(owner, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _temporary_folder(draft):
                keys = np.arange(len(rows))
                entry = new_segment(draft, manifest, rows, keys, records)
                commit(draft, manifest.next([entry], None, len(rows)))
                if exists(path):
                    path.rmdir()
                draft.rename(path)
                flush_folder(path.parent)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, encoder: Encoder | None = None
    ) -> "GalleryIndex":
        """Open an index; its files are mapped, and read when they are needed.

        Args:
            path: Folder of the index.
            encoder: Its encoder. ``None`` opens the one that the index remembers, once an image or
                a text is to be encoded.

        Raises:
            ValueError: If there is no index, a damaged one, or one of another model.
        """
        return cls(path, encoder=encoder)

    @property
    def encoder(self) -> Encoder:
        """The encoder of the index, opened when it is first needed.

        Raises:
            ValueError: If the index does not know it, or it has changed or gone.
        """
        manifest = self._snapshot.manifest
        if self._encoder is None or manifest.fingerprint not in (None, self._encoder.fingerprint):
            self._encoder = find_encoder("GalleryIndex", self.path, manifest)
        return self._encoder

    def __len__(self) -> int:
        """Return the number of images that a search can find."""
        return self._snapshot.num_present

    def search(
        self,
        vectors: Float[Tensor, "*q d"] | Float[np.ndarray, "*q d"] | Sequence[float],
        k: int = 10,
        *,
        where: Mapping[str, object] | None = None,
        query_cameras: Sequence[int | str] | None = None,
        combine: Literal["each", "mean", "max"] = "each",
        group_by: Literal["identity"] | None = None,
        fingerprint: str | None = None,
    ) -> SearchResult:
        """Find the images with the largest cosine similarities to each query.

        Args:
            vectors: (Q, D), or (D,) for one query.
            k: How many images to find; with ``group_by``, how many identities.
            where: Conditions by column, all of which an image has to meet: a value, a list of
                values, a :class:`Between` or a :class:`Not`. Columns are those of records (path,
                identity, camera, view, caption, split) and their extra ones.
            query_cameras: Camera of each query; images of the same camera are left out.
            combine: ``"each"`` searches every vector. Several images of one query: ``"mean"``
                searches the mean of the unit vectors, ``"max"`` takes each image's similarity to
                the nearest vector.
            group_by: ``"identity"`` returns the nearest image of each of the ``k`` nearest
                identities.
            fingerprint: Names the encoder of ``vectors``.

        Returns:
            A :class:`SearchResult` with a list of hits for each query; for a single one with
            ``"mean"`` and ``"max"``.

        Raises:
            ValueError: If ``k`` is larger than the index, vectors have another width or NaN, the
                fingerprint is another one, a column is not there, or a file is damaged.
        """
        owner = "GalleryIndex.search"
        check_choice(owner, "combine", combine, ("each", "mean", "max"))
        queries = self._check_queries(owner, vectors, k, fingerprint)
        allowed = self._allowed(owner, where)
        if combine != "each" and query_cameras is not None:
            raise ValueError(f'{owner}: query_cameras goes with combine="each" only.')

        sources = self._snapshot.segments
        groups = [MaskedQueries(np.arange(len(queries)), allowed)]
        if combine == "mean":
            queries = mean_of_unit_rows(queries)
            groups = [MaskedQueries(np.arange(1), allowed)]
        if query_cameras is not None:
            groups = self._groups_by_camera(owner, query_cameras, len(queries), allowed)

        def find(count: int) -> Found:
            if combine == "max":
                return find_nearest_to_any(queries, sources, allowed, count)
            return find_each(queries, sources, groups, count)

        if group_by is None:
            return self._result(find(k))

        check_choice(owner, "group_by", group_by, ("identity",))
        self._check_columns(owner, {"identity": None})
        num_rows = self._snapshot.num_present
        return self._result(group_by_identity(find, k, num_rows, self._identities))

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of similarities between images; ``None`` without one."""
        values = self._snapshot.manifest.calibration
        return None if values is None else Calibration.from_dict(values)

    def set_calibration(self, calibration: Calibration | None) -> None:
        """Save a calibration with the index; searches then have probabilities and "unknown".

        Args:
            calibration: Of the index's encoder, by :func:`calibrate`; ``None`` deletes it.

        Raises:
            ValueError: If it is of another encoder, or another process writes to the index.
        """
        owner = "GalleryIndex.set_calibration"
        with change(owner, self.path) as snapshot:
            old = snapshot.manifest
            theirs = None if calibration is None else calibration.fingerprint
            if theirs not in (None, old.fingerprint):
                raise ValueError(
                    f"{owner}: the calibration is of another model (fingerprint {theirs}) than the "
                    f"index ({old.fingerprint}). Calibrate with the encoder of the index."
                )
            values = None if calibration is None else calibration.as_dict()
            new = replace(old, calibration=values)
            commit(self.path, new.next(old.segments, old.removed, old.next_key))

        self.reload()

    def search_image(
        self,
        images: ImageInput | Sequence[ImageInput],
        k: int = 10,
        *,
        where: Mapping[str, object] | None = None,
        query_cameras: Sequence[int | str] | None = None,
        combine: Literal["each", "mean", "max"] = "each",
        group_by: Literal["identity"] | None = None,
    ) -> SearchResult:
        """Find the images that are nearest to each of some images.

        Args:
            images: One or several, as :meth:`Encoder.encode_images` takes them.
            k: As for :meth:`search`.
            where: As for :meth:`search`.
            query_cameras: As for :meth:`search`.
            combine: As for :meth:`search`.
            group_by: As for :meth:`search`.

        Raises:
            ValueError: As for :meth:`search`, or if an image cannot be read, or the encoder of the
                index cannot be found.
        """
        self._check_k("GalleryIndex.search_image", k)
        vectors = self.encoder.encode_images(images)
        return self.search(
            vectors, k, where=where, query_cameras=query_cameras, combine=combine, group_by=group_by
        )

    def search_text(
        self,
        texts: str | Sequence[str],
        k: int = 10,
        *,
        where: Mapping[str, object] | None = None,
        combine: Literal["each", "mean", "max"] = "each",
        group_by: Literal["identity"] | None = None,
    ) -> SearchResult:
        """Find the images that are nearest to each of some texts.

        Args:
            texts: One or several.
            k: As for :meth:`search`.
            where: As for :meth:`search`.
            combine: As for :meth:`search`.
            group_by: As for :meth:`search`.

        Raises:
            ValueError: As for :meth:`search`, or if the model has no text tower that its images
                can be compared with, or the encoder of the index cannot be found.
        """
        self._check_k("GalleryIndex.search_text", k)
        vectors = self.encoder.encode_texts(texts)
        found = self.search(vectors, k, where=where, combine=combine, group_by=group_by)
        # the calibration is about two images
        return replace(found, probabilities=None, is_unknown=None)

    def add(
        self,
        embeddings: Sequence[ImageRecord] | Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
        records: Sequence[ImageRecord] | None = None,
        *,
        fingerprint: str | None = None,
        on_error: OnError = "raise",
    ) -> IntArray:
        """Add images; when this returns, they are on the disk.

        Args:
            embeddings: (N, D). Or records alone, which the encoder of the index encodes.
            records: N records, if the index has them.
            fingerprint: Names the encoder of ``embeddings``.
            on_error: For records alone, as for :meth:`build`.

        Returns:
            The keys of the images (N,), int64.

        Raises:
            ValueError: If the embeddings do not fit the index, another process writes to it, or
                the disk is full, or an image cannot be read; the index is unchanged.
        """
        owner = "GalleryIndex.add"
        if not isinstance(embeddings, Tensor | np.ndarray):
            if records is not None:
                raise ValueError(f"{owner}: pass embeddings and records, or records alone.")
            encoded = self.encoder.encode_records(list(embeddings), on_error=on_error)
            self.skipped = tuple(encoded.skipped)
            embeddings, records = encoded.embeddings, encoded.records

        rows = _embedding_rows(owner, "embeddings", embeddings)
        _check_records(owner, rows, records)
        self._check_fit(owner, rows, fingerprint)
        if rows.dtype == torch.float64 and self._snapshot.manifest.dtype != "float64":
            raise ValueError(
                f"{owner}: embeddings are float64, but the index keeps float32. Convert them by "
                "float() if what is lost does not matter."
            )
        if (records is None) == self._snapshot.manifest.has_records:
            state = "has" if records is None else "was built without"
            raise ValueError(f"{owner}: the index {state} records; give records for all or none.")

        with change(owner, self.path) as snapshot:
            old = snapshot.manifest
            keys = np.arange(old.next_key, old.next_key + len(rows))
            entry = new_segment(self.path, old, rows, keys, records)
            next_key = old.next_key + len(rows)
            commit(self.path, old.next([*old.segments, entry], old.removed, next_key))

        self.reload()
        return keys

    def remove(self, keys: Iterable[int]) -> None:
        """Remove images; when this returns, no search finds them.

        Their embeddings stay in the files until :meth:`compact`.

        Args:
            keys: Keys of the images.

        Raises:
            ValueError: If the index has no image with such a key, or another process writes to it;
                the index is unchanged.
        """
        owner = "GalleryIndex.remove"
        unwanted = _key_array(owner, keys)
        with change(owner, self.path) as snapshot:
            rows = snapshot.rows_of_keys(unwanted)
            _check_known(owner, unwanted, rows)

            is_removed = ~snapshot.is_present
            is_removed[rows] = True
            old = snapshot.manifest
            entry = new_removed(self.path, old, np.flatnonzero(is_removed))
            commit(self.path, old.next(old.segments, entry, old.next_key))

        self.reload()

    def compact(self) -> None:
        """Drop removed images from the files, and join the files of all ``add`` to one.

        Rows are numbered anew in the same order; keys stay.

        Raises:
            ValueError: If another process writes to the index, a file is damaged, or the disk is
                full; the index is unchanged.
        """
        with change("GalleryIndex.compact", self.path) as snapshot:
            old = snapshot.manifest
            rows = np.flatnonzero(snapshot.is_present)
            segments = []
            if len(rows):
                present = PresentRows(snapshot, rows)
                found = snapshot.records(rows)
                records = [record for record in found if record is not None]
                keys = snapshot.keys[rows]
                segments = [new_segment(self.path, old, present, keys, records or None)]
            commit(self.path, old.next(segments, None, old.next_key))

        self.reload()

    def reembed(self, encoder: Encoder, *, on_error: OnError = "raise") -> None:
        """Encode all images again by another model, and replace all vectors in one atomic step.

        Until it is done, others read and search the index as it was; nobody can write to it.
        Rows are numbered anew as by :meth:`compact`; keys stay. A calibration is deleted.

        Args:
            encoder: The new encoder, which the index remembers from now on.
            on_error: ``"raise"`` stops at an image that cannot be read, and leaves the index as it
                was; ``"skip"`` removes it from the index, which names it as ``skipped``.

        Raises:
            ValueError: If the index has no records, another process writes to it, an image cannot
                be read, or the disk is full; the index is unchanged.
        """
        owner = "GalleryIndex.reembed"
        with change(owner, self.path) as snapshot:
            old = snapshot.manifest
            rows = np.flatnonzero(snapshot.is_present)
            records = [record for record in snapshot.records(rows) if record is not None]
            if not records:
                raise ValueError(f"{owner}: the index has no records, so no images to encode.")

            encoded = encoder.encode_records(records, on_error=on_error)
            embeddings = _embedding_rows(owner, "embeddings", encoded.embeddings)
            new = replace(
                old,
                dim=embeddings.shape[1],
                dtype="float32",
                fingerprint=encoder.fingerprint,
                encoder=source_to_remember(encoder, self.path),
                calibration=None,  # it was of the other model
            )
            keys = snapshot.keys[rows][list(encoded.rows)]
            entry = new_segment(self.path, new, embeddings, keys, encoded.records)
            commit(self.path, new.next([entry], None, old.next_key))

        self._encoder = encoder
        self.skipped = tuple(encoded.skipped)
        self.reload()

    def verify(self) -> None:
        """Read and check all files of the index.

        Raises:
            ValueError: If one is not what was written, with its name and the place.
        """
        self._snapshot.check_all()

    def reload(self) -> None:
        """See what was written since the index was opened."""
        self._snapshot = read_snapshot(self.path)

    def info(self) -> IndexInfo:
        """Return the size, the columns and the state of the index."""
        snapshot, manifest = self._snapshot, self._snapshot.manifest
        sizes = [entry["size"] for entry in manifest.segments]
        removed_size = 0 if manifest.removed is None else manifest.removed["size"]
        return IndexInfo(
            num_images=snapshot.num_present,
            num_removed=len(snapshot.keys) - snapshot.num_present,
            dim=manifest.dim,
            dtype=manifest.dtype,
            fingerprint=manifest.fingerprint,
            columns=tuple(snapshot.column_names),
            num_segments=len(manifest.segments),
            generation=manifest.generation,
            num_bytes=sum(sizes) + removed_size,
            encoder=manifest.encoder,
            is_calibrated=manifest.calibration is not None,
        )

    def keys(self, *, where: Mapping[str, object] | None = None) -> IntArray:
        """Return the keys of the images that meet conditions, in the order of insertion.

        Args:
            where: Conditions by column, as for :meth:`search`; ``None`` for all images.

        Returns:
            The keys (N,), int64; empty if no image meets them.

        Raises:
            ValueError: If a column is not there.
        """
        allowed = self._allowed("GalleryIndex.keys", where)
        keys = self._snapshot.keys
        return keys.copy() if allowed is None else keys[allowed]

    def records(self, keys: Iterable[int]) -> list[ImageRecord | None]:
        """Return the records of images by key.

        Args:
            keys: Keys of images that are in the index.

        Raises:
            ValueError: If the index has no image with such a key.
        """
        owner = "GalleryIndex.records"
        wanted = _key_array(owner, keys)
        rows = self._snapshot.rows_of_keys(wanted)
        _check_known(owner, wanted, rows)
        return self._snapshot.records(rows)

    def vectors(self, keys: Iterable[int]) -> Float[Tensor, "n d"]:
        """Return the embeddings of images by key, such as to search by an image of the index.

        Args:
            keys: Keys of images that are in the index.

        Returns:
            (N, D), of the type of the index; (0, D) without keys.

        Raises:
            ValueError: If the index has no image with such a key.
        """
        owner = "GalleryIndex.vectors"
        wanted = _key_array(owner, keys)
        if len(wanted) == 0:
            return torch.empty(0, self._snapshot.manifest.dim)

        rows = self._snapshot.rows_of_keys(wanted)
        _check_known(owner, wanted, rows)
        return self._snapshot.vectors(rows)

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, in the order of :meth:`keys`.

        Args:
            name: Name of the column, as ``where`` of :meth:`search` takes it.

        Returns:
            N values; ``None`` for each image whose record lacks the column.

        Raises:
            ValueError: If the column is not there.
        """
        self._check_columns("GalleryIndex.column", {name: None})
        return self._snapshot.values(name, np.flatnonzero(self._snapshot.is_present))

    def _check_queries(
        self,
        owner: str,
        vectors: Tensor | npt.NDArray[Any] | Sequence[float],
        k: int,
        fingerprint: str | None,
    ) -> Tensor:
        """Return the queries (Q, D), checked to fit the index."""
        self._check_k(owner, k)
        matrix = vectors if isinstance(vectors, Tensor) else as_array(owner, "vectors", vectors)
        rows = _embedding_rows(owner, "vectors", matrix[None] if matrix.ndim == 1 else matrix)
        self._check_fit(owner, rows, fingerprint)
        return rows.block(0, len(rows))

    def _check_k(self, owner: str, k: int) -> None:
        """Raise ValueError if an index has fewer images than are asked for."""
        check_integer(owner, "k", k, 1)
        if k > len(self):
            raise ValueError(f"{owner}: k is {k}, but the index holds {len(self)} images.")

    def _check_fit(self, owner: str, rows: EmbeddingRows, fingerprint: str | None) -> None:
        """Raise ValueError if embeddings are of another width, type or encoder than the index."""
        manifest = self._snapshot.manifest
        if rows.shape[1] != manifest.dim:
            raise ValueError(
                f"{owner}: {rows.name} have {rows.shape[1]} columns, and those of the index "
                f"have {manifest.dim}. Take both from the same model, at the same level."
            )
        if fingerprint not in (None, manifest.fingerprint):
            raise ValueError(
                f"{owner}: {rows.name} come from the encoder {fingerprint!r}, but the index was "
                f"built with {manifest.fingerprint!r}. Encode them by the same model."
            )

    def _allowed(self, owner: str, where: Mapping[str, object] | None) -> BoolArray | None:
        """Return the rows that a search may find; ``None`` for all."""
        snapshot = self._snapshot
        if not where:
            return None if snapshot.manifest.removed is None else snapshot.is_present

        self._check_columns(owner, where)
        return snapshot.is_present & snapshot.meets(where)

    def _check_columns(self, owner: str, where: Mapping[str, object]) -> None:
        check_column_names(owner, where, self._snapshot.column_names)

    def _groups_by_camera(
        self,
        owner: str,
        query_cameras: Sequence[int | str],
        num_queries: int,
        allowed: BoolArray | None,
    ) -> list[MaskedQueries]:
        """Return the queries of each camera, and the rows of other cameras."""
        if len(query_cameras) != num_queries:
            raise ValueError(
                f"{owner}: got {len(query_cameras)} query_cameras for {num_queries} queries."
            )

        self._check_columns(owner, {"camera": None})
        cameras = [_plain(camera) for camera in query_cameras]
        groups = []
        for camera in dict.fromkeys(cameras):
            numbers = [i for i, other in enumerate(cameras) if other == camera]
            is_other = self._snapshot.meets({"camera": Not(camera)})
            mask = is_other if allowed is None else is_other & allowed
            groups.append(MaskedQueries(np.array(numbers), mask))
        return groups

    def _identities(self, rows: IntArray) -> list[Any]:
        return self._snapshot.values("identity", rows)

    def _result(self, found: Found) -> SearchResult:
        """Look up the keys and records of rows."""
        keys = np.where(found.rows >= 0, self._snapshot.keys[found.rows], -1)
        records = [self._snapshot.records(rows[rows >= 0]) for rows in found.rows]
        calibration = self.calibration
        if calibration is None:
            return SearchResult(found.rows, keys, found.similarities, records)

        is_known = np.asarray(calibration.is_same(found.similarities).any(axis=1))
        return SearchResult(
            found.rows,
            keys,
            found.similarities,
            records,
            probabilities=calibration.probability(found.similarities),
            is_unknown=np.logical_not(is_known),
        )


def _plain(value: object) -> object:
    """Return an element of an array or a tensor as a plain value."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _embedding_rows(owner: str, name: str, source: Tensor | npt.NDArray[Any]) -> EmbeddingRows:
    """Return embeddings, checked to be a finite matrix of floating-point numbers."""
    rows = EmbeddingRows(owner, name, source, torch.device("cpu"))
    step = max(1, _CHECKED // rows.shape[1])
    for start in range(0, len(rows), step):
        rows.norms(start, min(start + step, len(rows)))
    return rows


def _check_records(owner: str, rows: EmbeddingRows, records: Sequence[ImageRecord] | None) -> None:
    """Raise ValueError if there is not one record for each embedding."""
    if records is not None and len(records) != len(rows):
        raise ValueError(
            f"{owner}: got {len(rows)} embeddings for {len(records)} records. Encode every record "
            "once, in order: shuffle=False, drop_last=False."
        )
    check_records(owner, records or ())


def _key_array(owner: str, keys: Iterable[int]) -> IntArray:
    """Return keys as an array of distinct integers."""
    array = as_array(owner, "keys", keys if isinstance(keys, np.ndarray) else list(keys))
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{owner}: keys are whole numbers, as `add` and hits give them.")
    return array.astype(np.int64)


def _check_known(owner: str, keys: IntArray, rows: IntArray) -> None:
    """Raise ValueError if the index has no image with one of the keys."""
    missing = keys[rows < 0][:5].tolist()
    if missing:
        names = ", ".join(map(str, missing))
        raise ValueError(f"{owner}: the index has no image with key {names}.")


@contextmanager
def _temporary_folder(path: Path) -> Iterator[None]:
    """Create a folder; delete it if what follows fails."""
    path.mkdir()
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
