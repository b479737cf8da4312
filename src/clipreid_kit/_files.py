"""Files that are whole or not there."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview, *, flush: bool = True) -> None:
    """Write a file so that a kill at any instant leaves the old one or the new one, never a part.

    Written under a temporary name that is this process's own, flushed to the disk, and renamed. ``flush=False`` leaves
    out the disk, for files that can be made again: a kill does no harm, a loss of power may.
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
    """Bring a folder's names to the disk: a rename is there only once its folder is."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
