"""Write the embeddings of records to files, in parts that survive a kill."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import check_choice, check_integer
from clipreid_kit._files import reason_of, replaced_file, write_whole
from clipreid_kit._read_files import describe_error, map_array, read_json
from clipreid_kit.data.evaluation.evaluation_ids import evaluation_ids
from clipreid_kit.data.readers.csv_table import write_csv
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.retrieval.encoding.encoded_images import SkippedImage, WrittenEmbeddings
from clipreid_kit.retrieval.encoding.encoder import Encoder, OnError

_OWNER = "write_embeddings"
_JOB = "job.json"
_VERSION = 1

Matrix = npt.NDArray[np.float32]


def write_embeddings(
    encoder: Encoder,
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    *,
    on_error: OnError = "raise",
    part_size: int = 8192,
) -> WrittenEmbeddings:
    """Encode records and write their embeddings, in parts that survive a kill.

    Use it for features that other programs read, and for sets that take hours: every part is on
    the disk when it is done, in a folder beside the target, and the same call after a kill
    continues with the next one. ``clipreid-evaluate`` reads what is written.

    - ``features.npz``: one file of arrays. Records of the splits ``query`` and ``gallery`` alone
      give ``query_embeddings``, ``query_ids``, ``query_cameras`` (if every record has one) and
      ``query_paths``, and the same of the gallery; any others ``embeddings``, ``ids``, ``cameras``
      and ``paths``.
    - any other name: a folder. The embeddings are ``.npy`` files of these names, which can be
      memory-mapped; the other arrays are in ``columns.npz``, and the records in ``records.csv``.

    Args:
        encoder: The encoder.
        records: The records.
        path: A new file that ends in ``.npz``, or a new folder.
        on_error: ``"raise"`` stops at an image that cannot be read, and ``"skip"`` leaves it out
            and names it in the result.
        part_size: Images of a part; rounded up to whole batches.

    Returns:
        Where it was written, and which images were left out.

    Raises:
        ValueError: If the target exists, parts of another job are beside it, an image cannot be
            read, or the disk is full.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> encoder = Encoder.open("reid-tiny-vit:random")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (8, 8)).save(f"{folder}/a.png")
        ...     records = [ImageRecord(f"{folder}/a.png", identity=7)]
        ...     written = write_embeddings(encoder, records, f"{folder}/features.npz")
        ...     sorted(np.load(written.path))
        ['embeddings', 'ids', 'paths']
    """
    check_choice(_OWNER, "on_error", on_error, ("raise", "skip"))
    check_integer(_OWNER, "part_size", part_size, 1)
    target = Path(path)
    if target.exists() or target.is_symlink():  # a link to nothing, too
        raise ValueError(f"{_OWNER}: {target} exists. Delete it, or choose another name.")
    if not records:
        raise ValueError(f"{_OWNER}: there are no records. Pass at least one.")

    size = -(-part_size // encoder.batch_size) * encoder.batch_size
    try:
        parts = _Parts(target, _job(encoder, records, on_error, size))
        num_resumed = parts.num_images
        for start in range(parts.num_done * size, len(records), size):
            encoded = encoder.encode_records(records[start : start + size], on_error=on_error)
            rows = [start + row for row in encoded.rows]
            parts.append(encoded.embeddings.numpy(), rows, encoded.skipped)

        kept = [records[row] for row in parts.rows()]
        _write_target(target, parts.embeddings(), kept, encoder)
        parts.delete()
    except OSError as error:
        raise ValueError(f"{_OWNER}: cannot write {target}: {reason_of(error)}.") from error

    return WrittenEmbeddings(
        path=target,
        num_images=len(kept),
        num_resumed=num_resumed,
        skipped=tuple(parts.skipped()),
        fingerprint=encoder.fingerprint,
    )


def _job(
    encoder: Encoder, records: Sequence[ImageRecord], on_error: OnError, size: int
) -> dict[str, Any]:
    """Describe a job, so that parts of another one are not taken for its own."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(f"{record.path}\n{record.camera}\n{record.view}\n".encode())
    return {
        "version": _VERSION,
        "encoder": encoder.fingerprint,
        "precision": encoder.precision,
        "images": digest.hexdigest(),
        "on_error": on_error,
        "part_size": size,
    }


class _Parts:
    """The parts of a job that are done, in a folder beside its target.

    A part is a ``.npy`` file, written after the ``.json`` file that says which rows it has.

    Args:
        target: The target of the job.
        job: What describes the job.
    """

    def __init__(self, target: Path, job: Mapping[str, Any]) -> None:
        self._folder = target.with_name(f"{target.name}.parts")
        self._facts: list[dict[str, Any]] = []
        self._folder.mkdir(parents=True, exist_ok=True)

        if (self._folder / _JOB).exists():
            self._check_job(job)
            while self._array(self.num_done).exists():
                self._facts.append(self._read(self._file(self.num_done)))
        else:
            write_whole(self._folder / _JOB, json.dumps(job).encode())

    @property
    def num_done(self) -> int:
        """Number of parts."""
        return len(self._facts)

    @property
    def num_images(self) -> int:
        """Number of embeddings."""
        return sum(len(facts["rows"]) for facts in self._facts)

    def append(
        self, embeddings: Matrix, rows: Sequence[int], skipped: Sequence[SkippedImage]
    ) -> None:
        """Write a part; when this returns, it is on the disk."""
        facts = {"rows": list(rows), "skipped": [[item.path, item.reason] for item in skipped]}
        write_whole(self._file(self.num_done), json.dumps(facts).encode())
        write_whole(self._array(self.num_done), _npy(embeddings))
        self._facts.append(facts)

    def rows(self) -> list[int]:
        """Return the positions of the embeddings among the records."""
        return [row for facts in self._facts for row in facts["rows"]]

    def skipped(self) -> list[SkippedImage]:
        """Return the images that could not be read."""
        return [SkippedImage(*item) for facts in self._facts for item in facts["skipped"]]

    def embeddings(self) -> list[Matrix]:
        """Return the embeddings of all parts, memory-mapped."""
        try:
            return [map_array(self._array(number)) for number in range(self.num_done)]
        except ValueError as error:
            raise self._damaged(error) from None

    def delete(self) -> None:
        """Delete the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _check_job(self, job: Mapping[str, Any]) -> None:
        if self._read(self._folder / _JOB) != job:
            raise ValueError(
                f"{_OWNER}: {self._folder} holds parts of another job: of other images, another "
                "model or other options. Delete it, or write elsewhere."
            )

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return dict(read_json(path))
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"{_OWNER}: the parts in {self._folder} are damaged ({describe_error(error)}). Delete "
            "the folder and start again."
        )

    def _array(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.npy"

    def _file(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.json"


def _write_target(
    target: Path, parts: Sequence[Matrix], records: Sequence[ImageRecord], encoder: Encoder
) -> None:
    """Write the file or the folder that was asked for, whole or not at all."""
    sides = _sides(records)
    columns = _columns(records, sides)
    if target.suffix == ".npz":
        joined = np.concatenate(parts)
        arrays = {name: joined[rows] for name, rows in sides.items()}
        content = io.BytesIO()
        np.savez(content, **arrays, **columns)  # type: ignore[arg-type]
        write_whole(target, content.getbuffer())
        return

    draft = target.with_name(f"{target.name}.parts") / "target"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, rows in sides.items():
        _write_matrix(draft / f"{name}.npy", parts, rows)

    content = io.BytesIO()
    np.savez(content, **columns)  # type: ignore[arg-type]
    write_whole(draft / "columns.npz", content.getbuffer())
    write_csv(_absolute(records), draft / "records.csv")
    facts = {"fingerprint": encoder.fingerprint, "source": encoder.source}
    write_whole(draft / "encoder.json", (json.dumps(facts, indent=2) + "\n").encode())
    draft.rename(target)


def _sides(records: Sequence[ImageRecord]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rows of each matrix: of queries and gallery, if all records are one of these."""
    splits = np.array([str(record.split) for record in records])
    if set(splits.tolist()) != {"query", "gallery"}:
        return {"embeddings": np.arange(len(records))}
    return {
        "query_embeddings": np.flatnonzero(splits == "query"),
        "gallery_embeddings": np.flatnonzero(splits == "gallery"),
    }


def _columns(
    records: Sequence[ImageRecord], sides: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, npt.NDArray[Any]]:
    """Return identities, cameras and paths, in the names that ``clipreid-evaluate`` reads."""
    has_cameras = all(record.camera is not None for record in records)
    if "embeddings" in sides:
        columns = {"ids": evaluation_ids(records)["query_ids"], "paths": _paths(records)}
        if has_cameras:
            both = evaluation_ids(records, records, cameras=True)
            columns["cameras"] = both["query_cameras"]
        return columns

    query = [records[row] for row in sides["query_embeddings"]]
    gallery = [records[row] for row in sides["gallery_embeddings"]]
    return {
        **evaluation_ids(query, gallery, cameras=has_cameras),
        "query_paths": _paths(query),
        "gallery_paths": _paths(gallery),
    }


def _paths(records: Sequence[ImageRecord]) -> npt.NDArray[Any]:
    return np.array([record.path for record in records])


def _absolute(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return records with absolute paths, as the table lies elsewhere than the images."""
    return [replace(record, path=str(Path(record.path).absolute())) for record in records]


def _write_matrix(path: Path, parts: Sequence[Matrix], rows: npt.NDArray[np.int64]) -> None:
    """Write rows of the joined parts as one ``.npy`` file, a part at a time."""
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
        "fortran_order": False,
        "shape": (len(rows), parts[0].shape[1]),
    }
    with replaced_file(path) as temporary, temporary.open("xb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)

        start = 0
        for part in parts:
            is_inside = (rows >= start) & (rows < start + len(part))
            chosen = part[rows[is_inside] - start]
            stream.write(np.ascontiguousarray(chosen).tobytes())
            start += len(part)

        stream.flush()
        os.fsync(stream.fileno())


def _npy(matrix: Matrix) -> memoryview:
    """Return the content of a ``.npy`` file."""
    content = io.BytesIO()
    np.save(content, matrix)
    return content.getbuffer()
