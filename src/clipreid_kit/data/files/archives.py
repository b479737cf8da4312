"""Image files on disk, and inside zip archives that are read in place."""

import os
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord


def split_member(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Split ``archive.zip::member`` in two; the second part is ``None`` for a plain file."""
    text = os.fspath(path)
    cut = text.lower().find(".zip::")
    return (text, None) if cut < 0 else (text[: cut + 4], text[cut + 6 :])


def read_bytes(owner: str, path: str | os.PathLike[str]) -> bytes:
    """Read a file or a member of a zip archive; whatever goes wrong is a ``ValueError`` that names it."""
    file, member = split_member(path)
    try:
        if member is None:
            return Path(file).read_bytes()
        archive = open_archive(file)
        size = archive.getinfo(member).file_size
        if size <= _LARGEST:  # a few kilobytes may unpack to more than the memory holds
            return archive.read(member)
    except FileNotFoundError as error:
        raise fail(owner, "an existing image file", f"no file at {file}", _REMEDY) from error
    except KeyError as error:
        got = f"an archive without it: {file}"
        raise fail(owner, f"the archive member {member}", got, _REMEDY) from error
    except (
        OSError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        ArithmeticError,
    ) as error:
        raise fail(
            owner, f"to read {file if member is None else path}", _reason(error), _REMEDY
        ) from error
    except Exception as error:  # zlib.error, lzma.LZMAError: a damaged member
        raise fail(
            owner, f"to read {path}", _reason(error), "Fetch or pack the archive again."
        ) from error
    remedy = "Leave its record out, or unpack the archive if you trust it."
    raise fail(
        owner, f"an archive member of at most {_LARGEST} bytes", f"{size} bytes: {path}", remedy
    )


def open_archive(file: str) -> zipfile.ZipFile:
    """Open a zip archive once for each process, and again if the archive has changed since."""
    status = Path(file).stat()
    # A forked worker shares file offsets with its parent, so its handles have to be its own: hence the
    # process id.
    return _open_archive(file, os.getpid(), status.st_mtime_ns, status.st_size)


def check_files(records: Iterable[ImageRecord]) -> None:
    """Check that the image file of every record exists, before hours of training find out.

    Use it once after reading a table. Files are looked up, not opened; members of a zip archive are looked up
    in the archive's directory.

    Args:
        records: Records with paths to files or to ``archive.zip::member``.

    Raises:
        ValueError: If files are missing: how many, and the first three.

    Example:
        >>> check_files([ImageRecord("no/such.jpg", identity=1)])
        Traceback (most recent call last):
        ...
        ValueError: check_files: expected a file for each of 1 records, got 1 missing: no/such.jpg. Correct
            ...
    """
    members: dict[str, frozenset[str]] = {}
    missing: list[str] = []
    total = 0
    for record in records:
        total += 1
        file, member = split_member(record.path)
        if member is None:
            found = Path(file).is_file()
        else:
            if file not in members:
                members[file] = _members(file)
            found = member in members[file]
        if not found:
            missing.append(record.path)
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        remedy = "Correct the paths, the folder that they are relative to, or restore the files."
        raise fail(
            "check_files",
            f"a file for each of {total} records",
            f"{len(missing)} missing: {names}",
            remedy,
        )


_LARGEST = 1 << 30  # bytes; more than Pillow's largest image has uncompressed
_REMEDY = "Correct the path, restore the file, or leave the record out; check_files lists every missing one."


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@lru_cache(maxsize=16)
def _open_archive(file: str, process: int, modified: int, size: int) -> zipfile.ZipFile:  # noqa: ARG001  cache key
    return zipfile.ZipFile(file)


def _members(file: str) -> frozenset[str]:
    if not Path(file).is_file():
        return frozenset()
    try:
        return frozenset(open_archive(file).namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise fail("check_files", f"{file} to be a zip archive", _reason(error), _REMEDY) from error
