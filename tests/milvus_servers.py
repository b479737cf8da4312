"""A Milvus server for tests: started in a folder of theirs, killed, and started again."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

PYTHON = "CLIPREID_TEST_MILVUS"  # set by make test-servers: a Python that has the server
TOKEN = "root:Milvus"  # of a new server that asks for one
_STARTED: list[int] = []  # processes of the servers that did start
SCRIPT = Path(__file__).with_name("milvus_server.py")


class Server:
    """A server that this process has started."""

    def __init__(self, folder, *, asks_for_token=False):
        self.folder = folder
        self.options = ["--authorize"] if asks_for_token else []
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [os.environ[PYTHON], str(SCRIPT), str(self.folder), *self.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline().split()
        if len(line) != 2:
            reason = self.process.communicate()[1].strip().splitlines()[-1:]
            self.process = None
            raise RuntimeError(f"the Milvus server does not start: {reason}")
        self.port, self.pid = map(int, line)
        _STARTED.append(self.pid)

    def kill(self):
        """Kill the server without a warning, and end the process that has started it."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self):
        if self.process is not None:
            self.process.communicate(timeout=30)
            self.process = None

    @property
    def address(self):
        return f"milvus:http://127.0.0.1:{self.port}"


def server_or_skip(folder, *, asks_for_token=False):
    """Start a server, or skip the tests that need one, with the reason."""
    if not os.environ.get(PYTHON):
        pytest.skip("no Milvus server here: make test-servers runs this")
    try:
        return Server(folder, asks_for_token=asks_for_token)
    except RuntimeError as error:
        if _STARTED:  # it can be started here
            raise
        pytest.skip(str(error))
