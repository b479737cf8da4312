"""Fingerprint of the files of images, to find out later whether they have changed."""

import hashlib
import os
from collections.abc import Iterable

from clipreid_kit import _read_files
from clipreid_kit.data.files.archives import is_cell, open_archive, split_member
from clipreid_kit.data.records import ImageRecord, check_records

# Bytes of files that are all read, and what is read of each of some files if there are more.
_ALL_BYTES = 64 << 20
_NUM_SAMPLES = 500
_SAMPLE_BYTES = 64 << 10


def image_fingerprint(records: Iterable[ImageRecord]) -> str:
    """Return a fingerprint of the content of the images of records, in their order.

    Use it to notice that images were changed, for example before a training run is resumed. It
    depends on no path and no time: a copy of the files elsewhere has the same fingerprint.

    The size of every file counts, of members of zip archives also their checksums. Of files, all
    bytes are read if they are 64 MB at most, otherwise the first 64 KB of 500 images, spread
    evenly: a change of equal size in another image goes unnoticed then.

    Args:
        records: The records. Files that are missing count as such.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: If something else than records is given.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.jpg")
        ...     _ = path.write_bytes(b"pixels")
        ...     before = image_fingerprint([ImageRecord(str(path), 1)])
        ...     _ = path.write_bytes(b"others")
        ...     before == image_fingerprint([ImageRecord(str(path), 1)])
        False
    """
    records = list(records)
    check_records("image_fingerprint", records)
    paths = list(dict.fromkeys(record.path for record in records))

    digest = hashlib.sha256()
    files: list[str] = []
    tables: set[str] = set()
    total = 0
    for path in paths:
        file, member = split_member(path)
        if member is not None and is_cell(file):
            # The directory of a table does not tell its cells apart: their names and the file do.
            digest.update(f"{member};".encode())
            if file in tables:
                continue
            tables.add(file)
        elif member is not None:
            digest.update(_of_member(file, member))
            continue

        size = _size_of(file)
        total += max(size, 0)
        files.append(file)
        digest.update(b"%d;" % size)

    step = 1 if total <= _ALL_BYTES else max(1, len(files) // _NUM_SAMPLES)
    limit = _ALL_BYTES if total <= _ALL_BYTES else _SAMPLE_BYTES
    for file in files[::step]:
        digest.update(_start_of(file, limit))
    return digest.hexdigest()


def _of_member(archive: str, member: str) -> bytes:
    """Return the size and checksum of a member, as the archive's directory states them."""
    try:
        info = open_archive(archive).getinfo(member)
    except (OSError, KeyError, ValueError):
        return b"missing;"
    return b"%d,%d;" % (info.file_size, info.CRC)


def _size_of(file: str) -> int:
    """Return the size of a file; -1 if it cannot be read."""
    try:
        return os.stat(file).st_size  # noqa: PTH116 (faster)
    except (OSError, ValueError):
        return -1


def _start_of(file: str, limit: int) -> bytes:
    """Return the digest of the first bytes of a file; nothing if it cannot be read."""
    try:
        with _read_files.open_file(file) as stream:
            return hashlib.sha256(stream.read(limit)).digest()
    except (OSError, ValueError):
        return b""
