"""Atomic writes: a file is whole, or not there."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview, *, flush: bool = True) -> None:
    """Write a file so that a kill at any instant leaves the old one or the new one, never a part.

    The content is written under a temporary name of this process, flushed to the disk, and renamed.

    Args:
        path: The file.
        content: Its new content.
        flush: Whether to flush to the disk. Without it, a loss of power may leave an empty file;
            use that for files that can be made again.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            if flush:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

    if flush:
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush a folder to the disk: a rename lasts only once its folder is written."""
    if os.name != "posix":
        return

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
