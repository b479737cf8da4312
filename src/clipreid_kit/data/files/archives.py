"""Image files on disk, and inside zip archives that are read in place."""

import os
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from clipreid_kit.data.records import ImageRecord

# In bytes; more than Pillow's largest image takes uncompressed.
_LARGEST_MEMBER = 1 << 30

_REMEDY = (
    "Correct the path, restore the file, or leave the record out; check_files lists every "
    "missing one."
)


class UnreadableFileError(ValueError):
    """A file that cannot be read, with the reason apart from the rest of the message."""

    reason = ""


def unreadable(
    owner: str, path: str | os.PathLike[str], reason: str, remedy: str = _REMEDY
) -> UnreadableFileError:
    """Build the error for a file that cannot be read."""
    # The message is the only argument: data loaders rebuild an error from it in another process.
    error = UnreadableFileError(f"{owner}: cannot read {os.fspath(path)}: {reason}. {remedy}")
    error.reason = reason
    return error


def split_member(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Split ``archive.zip::member`` in two; the member is ``None`` for a plain file."""
    text = os.fspath(path)
    position = text.lower().find(".zip::")
    if position < 0:
        return text, None
    return text[: position + len(".zip")], text[position + len(".zip::") :]


def read_bytes(owner: str, path: str | os.PathLike[str]) -> bytes:
    """Read a file or a member of a zip archive; raise UnreadableFileError if that fails."""
    file, member = split_member(path)
    try:
        if member is None:
            return Path(file).read_bytes()

        archive = open_archive(file)
        size = archive.getinfo(member).file_size
        # A few kilobytes may unpack to more than the memory holds.
        if size <= _LARGEST_MEMBER:
            return archive.read(member)
    except FileNotFoundError as error:
        reason = "there is no such file" if member is None else f"there is no archive {file}"
        raise unreadable(owner, path, reason) from error
    except KeyError as error:
        raise unreadable(owner, path, "the archive has no such member") from error
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError) as error:
        raise unreadable(owner, path, describe_error(error)) from error
    # A damaged member: zlib.error, lzma.LZMAError and others, which have no common class.
    except Exception as error:
        remedy = "Download or pack the archive again."
        raise unreadable(owner, path, describe_error(error), remedy) from error

    raise unreadable(
        owner,
        path,
        f"it unpacks to {size} bytes, more than the limit of {_LARGEST_MEMBER}",
        "Leave its record out, or unpack the archive if you trust it.",
    )


def open_archive(file: str) -> zipfile.ZipFile:
    """Open a zip archive once in each process, and again if the archive has changed since."""
    status = Path(file).stat()
    # A forked worker shares file offsets with its parent, so it needs handles of its own: hence
    # the process id in the key.
    return _open_archive(file, os.getpid(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _open_archive(file: str, process: int, modified: int, size: int) -> zipfile.ZipFile:  # noqa: ARG001  cache key
    """Open a zip archive; the other arguments are the key of the cache."""
    try:
        return zipfile.ZipFile(file)
    except NotImplementedError as error:  # a damaged directory may ask for any version of zip
        raise zipfile.BadZipFile(str(error)) from error


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
    members_of: dict[str, frozenset[str]] = {}
    missing: list[str] = []
    num_records = 0

    for record in records:
        num_records += 1
        file, member = split_member(record.path)

        if member is None:
            exists = Path(file).is_file()
        else:
            if file not in members_of:
                members_of[file] = _members(file)
            exists = member in members_of[file]

        if not exists:
            missing.append(record.path)

    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise ValueError(
            f"check_files: {len(missing)} of {num_records} image files are missing: "
            f"{', '.join(missing[:3])}{more}. Correct the paths, or the folder that they are "
            "relative to, or restore the files."
        )


def _members(file: str) -> frozenset[str]:
    """Return the names of an archive's members; none if there is no such file."""
    if not Path(file).is_file():
        return frozenset()

    try:
        return frozenset(open_archive(file).namelist())
    except (OSError, zipfile.BadZipFile) as error:
        remedy = "Download or pack the archive again."
        raise unreadable("check_files", file, describe_error(error), remedy) from error


def describe_error(error: BaseException) -> str:
    """Return the type and text of an error."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
