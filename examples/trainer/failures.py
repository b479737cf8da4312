"""Errors of a run as one line, with the traceback of an unforeseen one in a file."""

import contextlib
import errno
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

_OUR_PACKAGES = ("clipreid_kit", "examples")
_SIGNS_OF_SHARED_MEMORY = ("bus error", "shared memory", "/dev/shm", "</torch_")  # noqa: S108

_SHARED_MEMORY_IS_FULL = (
    "The shared memory (/dev/shm), through which processes hand over images, is full. Set "
    "data.workers to 0, or enlarge it, as with `docker run --shm-size=8g`."
)
_IS_NOT_DETERMINISTIC = (
    "`deterministic: true`, but {operation} has no deterministic implementation on this device. "
    "Leave `deterministic` out, or run on the CPU."
)
_WORKER_ENDED = (
    "A process that loads images was killed ({reason}), most often because the memory is full. "
    "Lower data.workers or the batch."
)


@contextlib.contextmanager
def one_line_errors(out: Path, rank: int = 0) -> Iterator[None]:
    """Turn an unforeseen error into a ValueError of one line, and keep every error's traceback.

    Args:
        out: Folder of the run, where the traceback is written.
        rank: Number of this process.
    """
    path = out / ("error.log" if rank == 0 else f"error-{rank}.log")
    with contextlib.suppress(OSError):
        path.unlink()  # of an earlier attempt

    try:
        yield
    except Exception as error:
        is_written = _write_traceback(error, path)
        sentence = sentence_of_failure(error)
        if sentence is None:
            raise

        where = f" The traceback is in {path}." if is_written else ""
        raise ValueError(f"{sentence}{where}") from error


def sentence_of_failure(error: Exception) -> str | None:
    """One line about an error of another library; ``None`` if the error is a sentence already."""
    of_worker = _of_worker(error)
    text = of_worker or str(error)
    if _is_shared_memory(error, text):
        return _SHARED_MEMORY_IS_FULL
    if text.startswith("DataLoader worker"):
        return _WORKER_ENDED.format(reason=" ".join(text.split()).rstrip("."))

    operation, is_not_deterministic, _ = text.partition(
        " does not have a deterministic implementation"
    )
    if is_not_deterministic:
        return _IS_NOT_DETERMINISTIC.format(operation=operation)

    if isinstance(error, OSError) or _is_ours(error):
        return of_worker
    if _is_of_image(error, text):
        return f"{text} `data.check: raise` finds such files before the training."

    reason = text.splitlines()[0] if text else "no reason is given"
    if isinstance(error, MemoryError) or "memory" in text:
        return f"{reason} Lower model.image_size, batch or evaluate.batch_size."
    return f"{type(error).__name__}: {reason}"


def _of_worker(error: Exception) -> str | None:
    """The text of an error in a process that loads images, which torch buries in a traceback."""
    text = str(error)
    if not text.startswith("Caught ") or "DataLoader worker process" not in text:
        return None

    last = re.split(rf"^(?:\w+\.)*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]
    return " ".join(last.split())


def _is_shared_memory(error: Exception, text: str) -> bool:
    if isinstance(error, OSError):
        # A queue between processes needs some of it; an error of a disk names its file.
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        is_of_queue = any("multiprocessing" in Path(file).parts for file in files)
        return error.errno == errno.ENOSPC and is_of_queue
    return any(sign in text.lower() for sign in _SIGNS_OF_SHARED_MEMORY)


def _is_of_image(error: Exception, text: str) -> bool:
    return isinstance(error, ValueError) and text.startswith("load_image: cannot read ")


def _is_ours(error: Exception) -> bool:
    """Whether a ValueError was raised by this code, which writes sentences."""
    if not isinstance(error, ValueError) or error.__traceback__ is None:
        return False

    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package in _OUR_PACKAGES


def _write_traceback(error: Exception, path: Path) -> bool:
    text = "".join(traceback.format_exception(error))
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:  # the disk is full
        return False
    return True
