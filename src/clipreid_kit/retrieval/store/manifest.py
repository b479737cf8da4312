"""The manifest of an index: which files belong to it. It is replaced in one atomic step."""

import json
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from clipreid_kit._files import write_whole
from clipreid_kit._read_files import InvalidJsonError, describe_error, read_json
from clipreid_kit.retrieval.store.approximate_file import ApproximateEntry
from clipreid_kit.retrieval.store.tensor_file import DamagedFileError, FileEntry

NAME = "manifest.json"
_FORMAT = "clipreid_kit gallery index"
_VERSION = 3
_READABLE = (1, 2, 3)  # version 1 names no encoder, and 2 no approximate structure


@dataclass(frozen=True)
class Manifest:
    """The state of an index.

    Attributes:
        dim: Width of the embeddings.
        dtype: ``float32`` or ``float64``.
        fingerprint: Names the encoder of the embeddings; ``None`` if unknown.
        has_records: Whether every embedding has a record.
        generation: Counts the changes of the index.
        next_key: Key of the next embedding; keys are never used twice.
        segments: Files of embeddings and records, in the order of insertion.
        removed: File with the rows that were removed; ``None`` if none were.
        encoder: Where the encoder of the embeddings came from; ``None`` if unknown.
        calibration: Values of the calibration of similarities; ``None`` without one.
        approximate: The approximate structure; ``None`` without one.
    """

    dim: int
    dtype: str
    fingerprint: str | None
    has_records: bool
    generation: int = 0
    next_key: int = 0
    segments: list[FileEntry] = field(default_factory=list)
    removed: FileEntry | None = None
    encoder: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    approximate: ApproximateEntry | None = None

    def next(
        self, segments: list[FileEntry], removed: FileEntry | None, next_key: int
    ) -> "Manifest":
        """Return the manifest of the next generation."""
        return replace(
            self,
            generation=self.generation + 1,
            segments=segments,
            removed=removed,
            next_key=next_key,
        )

    @property
    def files(self) -> set[str]:
        """Names of the files that belong to the index, beside the manifest."""
        names = {entry["name"] for entry in self.segments}
        if self.removed is not None:
            names.add(self.removed["name"])
        if self.approximate is not None:
            names.add(self.approximate["file"]["name"])
        return names

    def write(self, folder: Path) -> None:
        """Write the manifest, so that a kill at any instant leaves the old one or this one."""
        content: dict[str, object] = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        content["crc32"] = _checksum(content)
        write_whole(folder / NAME, json.dumps(content, indent=1).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an index.

    Raises:
        ValueError: If the folder holds no index, one of a newer format, or a damaged one.
    """
    path = folder / NAME
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise ValueError(
            f"{folder}: this is not an index: it has no {NAME}. Build one with GalleryIndex.build."
        ) from None
    except NotADirectoryError:
        raise ValueError(f"{folder}: this is a file; an index is a folder.") from None
    except (UnicodeDecodeError, InvalidJsonError):
        raise _damaged(path, "it is not JSON") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: cannot read the index: {describe_error(error)}.") from None

    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path}: this is not the manifest of a gallery index.")
    if content.get("version") not in _READABLE:
        raise ValueError(
            f"{path}: the index has format version {content.get('version')}, and this version of "
            f"clipreid_kit reads up to {_VERSION}. Update clipreid_kit, or build the index again."
        )

    crc32 = content.pop("crc32", None)
    if crc32 != _checksum(content):
        raise _damaged(path, "its checksum is wrong")
    del content["format"], content["version"]
    return Manifest(**content)


def _checksum(content: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _damaged(path: Path, reason: str) -> DamagedFileError:
    return DamagedFileError(
        f"{path}: {reason}; the file is damaged or was edited. Restore the index from a copy, or "
        "build it again."
    )
