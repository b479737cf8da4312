"""Files of equal bytes."""

import hashlib
import os
from collections.abc import Iterable

from clipreid_kit.data.files.archives import is_cell, open_archive, read_bytes, split_member
from clipreid_kit.data.files.boxes import split_box


def group_equal_files(paths: Iterable[str]) -> list[list[str]]:
    """Group paths of equal bytes; only files of equal size are read.

    Files that cannot be read are left out, and so are files that equal no other.
    """
    paths_of_size: dict[int, list[str]] = {}
    for path in paths:
        size = _size_of(path)
        if size is not None:
            paths_of_size.setdefault(size, []).append(path)

    groups: dict[tuple[int, bytes], list[str]] = {}
    for size, candidates in paths_of_size.items():
        if len(candidates) == 1:
            continue
        for path in candidates:
            digest = _digest_of(path)
            if digest is not None:
                groups.setdefault((size, digest), []).append(path)

    return [group for group in groups.values() if len(group) > 1]


def is_there(path: str) -> bool:
    """Return whether a file or archive member can be found."""
    return _size_of(path) is not None


def _size_of(path: str) -> int | None:
    """Return the size of a file or archive member in bytes; ``None`` if it cannot be read."""
    file, member = split_member(path)
    try:
        if member is None:
            return os.stat(file).st_size  # noqa: PTH116
        if is_cell(file):
            return len(read_bytes("validate_records", path))
        return open_archive(file).getinfo(member).file_size
    except (OSError, KeyError, ValueError):
        return None


def _digest_of(path: str) -> bytes | None:
    """Return the SHA-256 of a file and of the box of its part that is meant.

    ``None`` if the file cannot be read, which decoding reports.
    """
    _, box = split_box(path)
    mark = b"" if box is None else repr(box).encode()
    try:
        return hashlib.sha256(read_bytes("validate_records", path) + mark).digest()
    except ValueError:
        return None
