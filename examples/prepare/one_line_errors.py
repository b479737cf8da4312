"""Run a command so that an expected error is one line, and not a traceback."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> int:
    """Run a command, and return its exit status: 0, or 2 after an error that was printed."""
    try:
        main()
    except (
        ValueError,
        OSError,
    ) as error:  # of a file's content too: JSONDecodeError is a ValueError
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0
