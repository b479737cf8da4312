"""Runs in separate processes, which start at once."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from pathlib import Path

from forking_server import forking_context


def _go(arguments, errors, environment, file_limit):
    os.environ.update(environment)
    sys.stderr = Path(errors).open("a", buffering=1)  # noqa: SIM115 (until the process ends)
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have switched it off
    multiprocessing.set_start_method("fork", force=True)  # of processes that load images, as usual
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    from examples.trainer.__main__ import main

    sys.exit(main(arguments))


@contextlib.contextmanager
def started(*arguments, errors, environment=None, file_limit=None):
    """The trainer's command line in a process; what it says on stderr is appended to a file."""
    process = forking_context().Process(
        target=_go,
        args=(list(map(str, arguments)), str(errors), dict(environment or {}), file_limit),
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
