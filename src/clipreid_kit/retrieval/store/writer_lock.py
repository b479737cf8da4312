"""One writer at a time: a lock that ends with its process, however that ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NAME = "writer.lock"


@contextmanager
def writer_lock(owner: str, folder: Path) -> Iterator[None]:
    """Hold the lock of an index while it is written.

    On POSIX it is ``flock``, on Windows a locked byte. Network file systems may not support either.

    Raises:
        ValueError: If another writer holds it.
    """
    with (folder / NAME).open("ab") as stream:
        if not _try_lock(stream):
            raise ValueError(
                f"{owner}: another process is writing to {folder}. An index has one writer at a "
                "time; try again when it has finished."
            )
        yield  # closing the file releases the lock


def _try_lock(stream: BinaryIO) -> bool:
    """Lock an open file without waiting; return whether that worked."""
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True
