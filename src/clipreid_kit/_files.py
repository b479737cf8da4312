"""Atomic writes: a file is whole, or not there."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# In bytes: names of files have 255 at most.
_LONGEST_STEM = 150


def write_whole(path: Path, content: bytes | memoryview, *, flush: bool = True) -> None:
    """Write a file so that a kill at any instant leaves the old one or the new one, never a part.

    The content is written under a temporary name that nothing else uses, flushed to the disk, and
    renamed. Links are followed. A pipe or a character device is not replaced but written to.

    Args:
        path: The file.
        content: Its new content.
        flush: Whether to flush to the disk. Without it, a loss of power may leave an empty file;
            use that for files that can be made again.

    Raises:
        OSError: If the file cannot be written, or is a folder, a disk or a socket.
    """
    if _is_stream(path):
        _write_to_stream(path, content)
        return

    with replaced_file(path, flush=flush) as temporary, temporary.open("xb") as stream:
        stream.write(content)
        if flush:
            stream.flush()
            os.fsync(stream.fileno())


def check_replaceable(path: Path) -> None:
    """Require a place that :func:`write_whole` can write to, before there is anything to write.

    Raises:
        OSError: As :func:`write_whole`, if the path is a folder, or in one that is missing or that
            cannot be written to.
    """
    if _is_stream(path):
        return

    folder = _target_of(path).parent
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, f"you may not write to the folder {folder}", str(path))


def check_creatable(folder: Path) -> None:
    """Require a place where a folder is or can be made, with the folders above it.

    Raises:
        OSError: If the nearest one that is there is a file, or cannot be written to.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is a file, and no folder", str(folder))
    if not os.access(nearest, os.W_OK):
        raise PermissionError(errno.EACCES, f"you may not write to {nearest}", str(folder))


def reason_of(error: OSError) -> str:
    """Return what the system says of an error, without number and type.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.csv"))
    'No such file or directory'
    """
    return error.strerror or str(error) or type(error).__name__


def error_line(error: BaseException) -> str:
    """Return an error as a line for a person; one of the system as its file and the reason.

    >>> error_line(FileNotFoundError(2, "No such file or directory", "a.csv"))
    'a.csv: No such file or directory.'
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason_of(error)}."
    return str(error) or type(error).__name__


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file, and flush it to the disk; a new file is private to its owner.

    A kill at any instant leaves the lines before whole. A last line without its end, which a kill
    may have left, is closed first, so that it stays a line of its own.

    Raises:
        OSError: If the file cannot be written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        if size > 0:
            stream.seek(size - 1)
            if stream.read(1) != b"\n":
                line = b"\n" + line

        stream.write(line + b"\n")
        os.fsync(stream.fileno())


@contextmanager
def replaced_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield an unused name to write a file under, which replaces the file if all goes well.

    Args:
        path: The file. Links are followed.
        flush: Whether to flush the folder to the disk afterwards.

    Yields:
        A name in the same folder; what is there is removed if the block fails.

    Raises:
        OSError: If the file cannot be replaced, or is no regular file.
    """
    target = _target_of(path)
    temporary = target.with_name(f".{_stem_of(target)}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        _keep_permissions(target, temporary)
        temporary.replace(target)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None  # nobody knows the other name
        raise
    finally:
        temporary.unlink(missing_ok=True)

    if flush:
        flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Flush a folder to the disk: a rename lasts only once its folder is written."""
    if os.name != "posix":
        return

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_permissions(target: Path, temporary: Path) -> None:
    """Give a new file the permissions of the one that it replaces, which may be private."""
    with suppress(OSError):  # there is none, or the disk has no permissions
        temporary.chmod(stat.S_IMODE(target.stat().st_mode) & 0o777)


def _is_stream(path: Path) -> bool:
    """Return whether a path is a pipe, a terminal or another device of characters."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _write_to_stream(path: Path, content: bytes | memoryview) -> None:
    """Write to a pipe or device."""
    # Without O_NONBLOCK, opening a pipe that nobody reads would never return.
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def _target_of(path: Path) -> Path:
    """Return the regular file that a path leads to, which may not exist yet."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    folder = target.parent
    if not folder.exists():
        reason = f"there is no folder {folder}; create it first"
        raise FileNotFoundError(errno.ENOENT, reason, str(path))
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, and no folder", str(path))

    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return target

    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file", str(path))
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file, so it is not replaced", str(path))
    return target


def _stem_of(target: Path) -> str:
    """Return the name of a file, cut so that a longer one is still a valid name."""
    return os.fsencode(target.name)[:_LONGEST_STEM].decode("utf-8", "ignore")
