"""Progress of a long computation, on one line of a terminal."""

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

_SHOWN_AFTER = 2.0  # seconds: what is done before needs no progress
_WIDTH = 30


@runtime_checkable
class _Stream(Protocol):
    def isatty(self) -> bool: ...
    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...


def progress_line(stream: _Stream) -> Callable[[int, int], None] | None:
    """Return a function that shows the progress it is called with; ``None`` for no terminal.

    Its first call begins a computation, and one with all that there is to do ends it.

    Args:
        stream: Where to show it.
    """
    if not stream.isatty():
        return None

    began = 0.0
    first_done: int | None = None
    is_shown = False

    def show(done: int, total: int) -> None:
        nonlocal began, first_done, is_shown
        if first_done is None:
            began = time.monotonic()
            first_done = done  # by an earlier run

        elapsed = time.monotonic() - began
        if done >= total:
            if is_shown:
                stream.write("\r\033[K")
            first_done, is_shown = None, False  # another computation may follow
        elif elapsed > _SHOWN_AFTER and done > first_done:
            is_shown = True
            remaining = elapsed * (total - done) / (done - first_done)
            bar = "#" * (_WIDTH * done // total)
            line = f"{bar:.<{_WIDTH}} {done / total:4.0%}, {_clock(remaining)} left"
            stream.write(f"\r\033[K{line}")
        stream.flush()

    return show


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
