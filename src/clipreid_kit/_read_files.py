"""The one place where files are opened for reading: regular files only, and of bounded size.

Nothing else in the library opens a file by itself, apart from two doors that need more than bytes:
``data/images/load_image.py`` for images and ``clip/towers/read_weights.py`` for weights. Nothing
that a file holds is ever run.
"""

import errno
import gzip
import io
import json
import mmap
import os
import stat
import weakref
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

MAX_BYTES = 1 << 30
"""Limit for everything that is read whole, in bytes: no image or table is larger."""

MAX_JSON_DEPTH = 100

_LONGEST_NAME = 200  # characters of a name in an error

PathLike = str | os.PathLike[str]

_KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class UnusableFileError(ValueError):
    """A file that is not opened, or not read to its end; the text is the reason."""


class InvalidJsonError(ValueError):
    """Text that is no JSON, is nested too deeply, or holds a key twice in one object."""


def kind_of(path: PathLike) -> Literal["file", "folder", "other", "nothing"]:
    """Return what is at a path; links are followed.

    Raises:
        UnusableFileError: If that cannot be known: the name is too long, holds a null character, or
            is a link to itself, or a folder above may not be read.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (any kind of path)
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except (OSError, ValueError) as error:
        name = os.fspath(path)
        shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnusableFileError(f"There can be no file at {shown!r}: {reason}.") from error

    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def is_file(path: PathLike) -> bool:
    """Return whether there is a regular file at a path, as :func:`kind_of` does."""
    return kind_of(path) == "file"


def is_folder(path: PathLike) -> bool:
    """Return whether there is a folder at a path, as :func:`kind_of` does."""
    return kind_of(path) == "folder"


def exists(path: PathLike) -> bool:
    """Return whether there is anything at a path, as :func:`kind_of` does."""
    return kind_of(path) != "nothing"


def open_file(path: PathLike) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: If there is no such file, it is a folder, or it may not be read.
        UnusableFileError: If it is a pipe, a device or a socket.
    """
    # Opening a pipe without a writer would wait for one.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)

    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise UnusableFileError(f"it is {kind}, not a regular file")

        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: PathLike) -> bytes:
    """Read a whole file of at most ``MAX_BYTES``.

    Raises:
        OSError: As :func:`open_file`.
        UnusableFileError: As :func:`open_file`, or if the file is too large.
    """
    with open_file(path) as stream:
        _check_size(os.fstat(stream.fileno()).st_size, "it has")
        return stream.read()


def gunzip(content: bytes) -> bytes:
    """Unpack gzip data to at most ``MAX_BYTES``.

    Raises:
        UnusableFileError: If it unpacks to more, or is damaged.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnusableFileError(f"it is no gzip file, or damaged ({error})") from error

    _check_size(len(unpacked), "it unpacks to at least")
    return unpacked


def inflate(content: bytes) -> bytes:
    """Unpack zlib data to at most ``MAX_BYTES``.

    Raises:
        UnusableFileError: If it unpacks to more, or is damaged.
    """
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise UnusableFileError(f"its packed part is damaged ({error})") from error

    _check_size(len(unpacked), "it unpacks to at least")
    if not unpacking.eof:
        raise UnusableFileError("its packed part ends too soon")
    return unpacked


def read_text(path: PathLike) -> str:
    """Read a UTF-8 file of at most ``MAX_BYTES``; a byte order mark is skipped.

    Raises:
        OSError: As :func:`open_file`.
        UnusableFileError: As :func:`read_bytes`.
        UnicodeDecodeError: If it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig")


def read_json(path: PathLike) -> Any:  # noqa: ANN401 (JSON)
    """Read a JSON file in UTF-8, as :func:`parse_json` does.

    Raises:
        OSError: As :func:`open_file`.
        ValueError: As :func:`read_text` and :func:`parse_json`.
    """
    return parse_json(read_text(path))


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 (JSON)
    """Parse JSON of bounded depth in which no object holds a key twice.

    Raises:
        InvalidJsonError: If the text is anything else.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_repeated_keys)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidJsonError(str(error)) from error

    _check_depth(value)
    return value


def open_archive(path: PathLike) -> zipfile.ZipFile:
    """Open a zip archive; it is closed when nothing refers to it.

    Raises:
        OSError: As :func:`open_file`.
        UnusableFileError: As :func:`open_file`.
        zipfile.BadZipFile: If it is no zip archive.
    """
    stream = open_file(path)
    try:
        return _Archive(stream)
    except NotImplementedError as error:  # a damaged directory may ask for any version of zip
        stream.close()
        raise zipfile.BadZipFile(str(error)) from error
    except BaseException:
        stream.close()
        raise


class _Archive(zipfile.ZipFile):
    r"""A zip archive that closes its file with itself.

    Folders that some programs separate by ``\\`` are separated by ``/``, as they should be. Names
    in UTF-8 that are not marked as such, as many programs write them, are read as UTF-8.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._own_stream = stream
        # Among garbage in circles, the stream may be found before the archive, whose `__del__`
        # would close it.
        weakref.finalize(self, stream.close)
        super().__init__(stream)

        # Members are looked up in the file by their original name, which stays.
        for member in self.filelist:
            name = _unmarked_utf8(member).replace("\\", "/")
            if name != member.filename:
                member.filename = name
                self.NameToInfo.setdefault(name, member)

    def close(self) -> None:
        super().close()
        self._own_stream.close()


def _unmarked_utf8(member: zipfile.ZipInfo) -> str:
    """Return the name of a member, decoded as UTF-8 if it is not marked but can be so."""
    if member.flag_bits & 0x800 or member.filename.isascii():
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Unpack a member of an archive, of at most ``MAX_BYTES``.

    Raises:
        KeyError: If there is no such member.
        UnusableFileError: If it is too large, encrypted or damaged.
    """
    member = archive.getinfo(name)
    # A few kilobytes may unpack to more than the memory holds.
    _check_size(member.file_size, "it unpacks to")
    if member.flag_bits & 1:
        raise UnusableFileError("it is encrypted")

    try:
        return archive.read(name)
    # Damaged members raise zlib.error, lzma.LZMAError, EOFError and others without a common class.
    except Exception as error:
        raise UnusableFileError(describe_error(error)) from error


def load_array(path: PathLike, name: str) -> npt.NDArray[Any]:
    """Load one array of a ``.npz`` file; arrays of Python objects are refused.

    Raises:
        OSError: As :func:`open_file`.
        ValueError: If the array is damaged, encrypted, or no array.
    """
    with open_file(path) as stream:
        try:
            with np.load(stream, allow_pickle=False) as archive:
                array: object = archive[name]
        except MemoryError:
            raise
        # As for members of archives; NumPy adds errors of its own for damaged headers.
        except Exception as error:
            raise UnusableFileError(_first_line(error)) from error

    if not isinstance(array, np.ndarray):
        raise UnusableFileError("it is not an array")
    return array


def map_array(path: PathLike) -> npt.NDArray[Any]:
    """Map a ``.npy`` file into memory; arrays of Python objects are refused.

    Raises:
        OSError: As :func:`open_file`.
        ValueError: If the file is damaged.
    """
    with open_file(path):
        pass

    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise UnusableFileError(_first_line(error)) from error
    return array


def map_file(path: PathLike) -> mmap.mmap:
    """Map a file of any size into memory, for reading.

    Raises:
        OSError: As :func:`open_file`.
        UnusableFileError: As :func:`open_file`, or if the file is empty.
    """
    with open_file(path) as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise UnusableFileError("it is empty")
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def describe_error(error: BaseException) -> str:
    """Return the type and text of an error; of the errors of this file, the text alone."""
    if isinstance(error, UnusableFileError | InvalidJsonError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def identity_of_file(path: PathLike) -> tuple[int, ...]:
    """Return numbers that change if a file is changed or replaced, even by one of equal size."""
    status = Path(path).stat()
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _check_size(size: int, verb: str) -> None:
    """Raise UnusableFileError if something is too large to be read whole."""
    if size > MAX_BYTES:
        raise UnusableFileError(f"{verb} {size} bytes, more than the limit of {MAX_BYTES}")


def _without_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object from its pairs; raise InvalidJsonError if a key is repeated."""
    content = dict(pairs)
    if len(content) == len(pairs):
        return content

    counts = Counter(name for name, _ in pairs)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    names = ", ".join(repr(name[:60]) for name in repeated[:3])
    more = ", ..." if len(repeated) > 3 else ""
    raise InvalidJsonError(f"{names}{more} more than once in an object")


def _check_depth(value: object) -> None:
    """Raise InvalidJsonError if lists and objects are nested too deeply for later steps."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        deeper: list[object] = []
        for node in level:
            if isinstance(node, dict):
                deeper.extend(node.values())
            elif isinstance(node, list):
                deeper.extend(node)

        if not deeper:
            return
        level = deeper

    raise _too_deep()


def _too_deep() -> InvalidJsonError:
    return InvalidJsonError(f"it is nested more than {MAX_JSON_DEPTH} levels deep")


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
