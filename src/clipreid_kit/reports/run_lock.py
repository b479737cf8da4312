"""A lock on the folder of a run, so that two processes cannot write to it."""

import contextlib
import errno
import os
import platform
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

from clipreid_kit._fixed_options import fixed_options

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_HELD = (errno.EACCES, errno.EAGAIN)


@fixed_options()
class RunLock:
    """A lock on the folder of a run, held until :meth:`release` or the end of the process.

    Use it so that no second process writes to a run. The operating system releases the lock when
    the process ends, however it ends: a run that was killed can be resumed. Processes that the
    holder starts do not inherit it. Within one process it can be taken several times. Nothing is
    locked on Windows, and on disks that have no locks.

    Args:
        folder: Folder of the run; it exists.

    Raises:
        ValueError: If another process holds the lock; the message names the process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunLock(folder):
        ...         pass  # write to the folder
    """

    folder: Final[Path]

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        # The file stays: deleting it could delete the lock of a process that opened it meanwhile.
        path = self.folder / LOCK_FILE
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o666)
        try:
            self._lock(self._descriptor)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _lock(self, descriptor: int) -> None:
        if sys.platform == "win32":
            return

        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                return  # the disk has no locks
            holder = os.read(descriptor, 200).decode("utf-8", errors="replace").strip()
            raise ValueError(
                f"{self.folder}: {holder or 'another process'} is writing to this run. Wait until "
                "it ends, or change --out."
            ) from None

        with contextlib.suppress(OSError):  # a full disk: the name is for messages only
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
