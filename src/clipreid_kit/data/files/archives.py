"""Image files on disk, and inside zip archives that are read in place."""

import os
import re
import zipfile
from collections.abc import Iterable
from functools import lru_cache

from clipreid_kit import _read_files
from clipreid_kit._read_files import describe_error, identity_of_file
from clipreid_kit.data.files.boxes import split_box
from clipreid_kit.data.files.near_names import near_file
from clipreid_kit.data.files.table_cells import SUFFIXES, read_cell
from clipreid_kit.data.records import ImageRecord, check_records

_REMEDY = (
    "Correct the path, restore the file, or leave the record out; check_files lists every "
    "missing one."
)

_LONGEST_PATH = 5000  # characters of a path in an error; no system has longer ones

_CONTAINER = re.compile(r"\.(?:zip|parquet|arrow)::", re.IGNORECASE)


class UnreadableFileError(ValueError):
    """A file that cannot be read, with the reason apart from the rest of the message."""

    reason = ""

    def __init__(self, message: str) -> None:
        # A data loader raises a worker's error again with the worker's whole traceback as its
        # message. The last line of that traceback is the message.
        _, _, own = message.rpartition(f"{type(self).__name__}: ")
        super().__init__(own.rstrip("\n"))


def unreadable(
    owner: str, path: str | os.PathLike[str], reason: str, remedy: str = _REMEDY
) -> UnreadableFileError:
    """Build the error for a file that cannot be read."""
    # The message is the only argument: data loaders rebuild an error from it in another process.
    error = UnreadableFileError(f"{owner}: cannot read {os.fspath(path)}: {reason}. {remedy}")
    error.reason = reason
    return error


def split_member(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Split ``archive.zip::member`` in two; the member is ``None`` for a plain file.

    So is ``table.parquet::column/row``, and likewise in an Arrow file. A box behind the path is
    left out.
    """
    text, _ = split_box(os.fspath(path))
    found = _CONTAINER.search(text)
    if found is None:
        return text, None
    return text[: found.end() - len("::")], text[found.end() :]


def is_cell(file: str) -> bool:
    """Return whether a file with a member is a table, whose members are cells."""
    return file.lower().endswith(SUFFIXES)


def read_bytes(owner: str, path: str | os.PathLike[str], remedy: str = _REMEDY) -> bytes:
    """Read a file or a member of a zip archive; raise UnreadableFileError if that fails."""
    file, member = split_member(path)
    try:
        if member is None:
            return _read_files.read_bytes(file)
        if is_cell(file):
            return read_cell(file, member)
        return _read_files.read_member(open_archive(file), member)
    except FileNotFoundError as error:
        raise unreadable(owner, path, _reason_for_absence(file, member), remedy) from error
    except KeyError as error:
        near = near_file(os.fspath(path))
        reason = f"the {'table' if is_cell(file) else 'archive'} has no such member{near}"
        raise unreadable(owner, path, reason, remedy) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if member is not None:
            remedy = "Download or pack the archive again."
        raise unreadable(owner, path, describe_error(error), remedy) from error


def open_archive(file: str) -> zipfile.ZipFile:
    """Open a zip archive once in each process, and again if the archive has changed since."""
    # A forked worker shares file offsets with its parent, so it needs handles of its own: hence
    # the process id in the key.
    return _open_archive(file, os.getpid(), identity_of_file(file))


@lru_cache(maxsize=16)
def _open_archive(file: str, process: int, identity: tuple[int, ...]) -> zipfile.ZipFile:  # noqa: ARG001  cache key
    """Open a zip archive; the other arguments are the key of the cache."""
    return _read_files.open_archive(file)


def _reason_for_absence(file: str, member: str | None) -> str:
    """Return why a file cannot be read that does not exist."""
    near = near_file(file)
    if member is None:
        return f"there is no such file{near}"
    return f"there is no archive {file}{near}"


def check_files(records: Iterable[ImageRecord]) -> None:
    """Check that the image file of every record exists, before training starts.

    Use it once after reading a table. Files are looked up, not opened; members of a zip archive are
    looked up in the archive's directory.

    Args:
        records: Records with paths to files or to ``archive.zip::member``.

    Raises:
        ValueError: If files are missing, with their number and the first three, or an archive is
            damaged.

    Example:
        >>> check_files([ImageRecord("no/such.jpg", identity=1)])
        Traceback (most recent call last):
        ...
        ValueError: check_files: 1 of 1 image files are missing: no/such.jpg. Correct the paths, ...
    """
    records = list(records)
    check_records("check_files", records)
    members_of: dict[str, frozenset[str]] = {}
    missing: list[str] = []

    for record in records:
        file, member = split_member(record.path)

        if member is None or is_cell(file):
            exists = os.path.isfile(file)  # noqa: PTH113 (also of names that cannot be)
        else:
            if file not in members_of:
                members_of[file] = _members(file)
            exists = member in members_of[file]

        if not exists:
            missing.append(record.path)

    if missing:
        named = [path[:_LONGEST_PATH] + near_file(path) for path in missing[:3]]
        more = ", ..." if len(missing) > 3 else ""
        raise ValueError(
            f"check_files: {len(missing)} of {len(records)} image files are missing: "
            f"{', '.join(named)}{more}. Correct the paths, or the folder that they are "
            "relative to, or restore the files."
        )


def _members(file: str) -> frozenset[str]:
    """Return the names of an archive's members; none if there is no such file."""
    if not os.path.isfile(file):  # noqa: PTH113 (as above)
        return frozenset()

    try:
        return frozenset(open_archive(file).namelist())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        remedy = "Download or pack the archive again."
        raise unreadable("check_files", file, describe_error(error), remedy) from error
