"""``clipreid serve``: a server that starts, says where, and ends by one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from clipreid_kit.cli import serve as serve_module
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex


@pytest.fixture
def store(tmp_path):
    records = [ImageRecord(f"{name}.jpg", name) for name in "abc"]
    GalleryIndex.build(np.eye(3, dtype=np.float32), records, store=tmp_path / "gallery.index")
    return tmp_path / "gallery.index"


class Listener:
    """A socket that listens nowhere."""

    def __init__(self, address):
        self._address = address

    def getsockname(self):
        return (self._address, 8000)

    def close(self):
        pass


@pytest.fixture
def served(monkeypatch):
    """Applications that would be served, and an address that seems to be listened on."""
    apps = []
    monkeypatch.setattr(serve_module, "_run", lambda app, listener: apps.append(app))
    monkeypatch.setattr(serve_module, "_listen", lambda host, port: Listener(host))
    return apps


def test_this_machine_alone_needs_no_token(clipreid, store, served):
    status, out, _ = clipreid("serve", store)
    assert status == 0
    assert out == f"{store}: http://127.0.0.1:8000/  (Ctrl-C stops it)\nstopped\n"
    assert len(served) == 1


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "::"])
def test_another_address_gets_a_token(clipreid, store, served, host):
    tokens = set()
    for _ in range(2):
        status, out, _ = clipreid("serve", store, "--host", host)
        assert status == 0
        tokens.add(out.split("/?token=")[1].split()[0])
    assert len(tokens) == 2
    assert all(len(token) >= 32 for token in tokens)


def test_a_token_of_yours(clipreid, store, served, monkeypatch):
    _, out, _ = clipreid("serve", store, "--token", "0123456789abcdef")
    assert "http://127.0.0.1:8000/?token=0123456789abcdef " in out
    monkeypatch.setenv("CLIPREID_SERVE_TOKEN", "fedcba9876543210")
    _, out, _ = clipreid("serve", store, "--host", "::1")
    assert "http://[::1]:8000/?token=fedcba9876543210 " in out


def test_mistakes_are_errors_of_one_line(clipreid, store, tmp_path, free_port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        for arguments, status, words in [
            ([store, "--port", free_port], 1, "another --port"),
            ([store, "--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1:8000"),
            ([store, "--host", "no such name"], 1, "no address to listen on"),
            ([store, "--port", "0", "--token", "short"], 1, "16 characters"),
            ([tmp_path, "--port", "0"], 1, "is not an index"),
            ([store, store, store], 2, "two to compare"),
            ([store, "--port", "70000"], 2, "65535"),
        ]:
            code, _, error = clipreid("serve", *arguments)
            assert (code, words in error, error.count("\n")) == (status, True, 1), error


def test_without_the_extra(clipreid, store, monkeypatch):
    monkeypatch.setattr("clipreid_kit.cli._requirements.problem_of", lambda one: "x is missing")
    monkeypatch.setattr("clipreid_kit.cli._requirements.requirements_of", lambda extra: [extra])
    status, _, error = clipreid("serve", store)
    assert status == 1
    assert error == "error: serve: x is missing. Run pip install 'clipreid_kit[serve]'.\n"


@pytest.mark.slow  # a process that imports everything
@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a signal of POSIX")
def test_a_server_from_start_to_ctrl_c(store):
    process = subprocess.Popen(
        [sys.executable, "-m", "clipreid_kit", "serve", str(store), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().split(": ")[1].split()[0]
        with urllib.request.urlopen(f"{url}api/info", timeout=300) as answer:
            assert json.load(answer)["indexes"][0]["num_images"] == 3
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (0, "stopped\n", "")


def test_help_has_an_example(clipreid):
    status, out, _ = clipreid("serve", "--help")
    assert status == 0
    assert "Example: clipreid serve gallery.index" in " ".join(out.split())
