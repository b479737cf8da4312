"""Addresses of Milvus, and calls that fail, are refused, or never end."""

import socket
import threading

import numpy as np
import pytest

pytest.importorskip("pymilvus", reason="pip install clipreid_kit[milvus]")

from clipreid_kit.retrieval import GalleryIndex
from clipreid_kit.retrieval.engines import milvus_connection
from clipreid_kit.retrieval.engines.milvus_connection import (
    MilvusAddress,
    MilvusConnection,
    parse_address,
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(milvus_connection, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(milvus_connection, "_CONNECT_SECONDS", 0.3)


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite")
    return MilvusConnection("a test", MilvusAddress(f"{folder}/a.db", "photos"), None)


def test_addresses():
    assert parse_address("a test", "milvus:a/b.db#x").path.name == "b.db"
    assert parse_address("a test", "milvus:a/b.db#x").name == "milvus:a/b.db#x"
    far = parse_address("a test", "milvus:https://host:443")
    assert (far.path, far.name) == (None, "milvus:https://host:443")
    assert parse_address("a test", "milvus:http:/host:1").uri == "http://host:1"  # from a Path


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ("milvus:gallery.index", r"neither a file of Milvus Lite, whose name ends in \.db"),
        ("milvus:", "neither a file"),
        ("milvus:a.db#two words", "'two words' cannot be the name of an index"),
        ("milvus:http://root:Milvus@host:19530", r"must not hold a password\. Pass token="),
    ],
)
def test_bad_addresses(store, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        GalleryIndex.open(store)
    assert "root" not in str(caught.value)


def test_a_refused_connection():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(
        ValueError, match=rf"GalleryIndex\.open: milvus:http://127\.0\.0\.1:{port} does not"
    ):
        GalleryIndex.open(f"milvus:http://127.0.0.1:{port}")
    with pytest.raises(ValueError, match=r"GalleryIndex\.build: .* does not answer"):
        GalleryIndex.build(np.eye(3, dtype=np.float32), store=f"milvus:http://127.0.0.1:{port}")


def test_a_server_that_never_answers():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        taken = []
        taker = threading.Thread(target=lambda: taken.append(listening.accept()), daemon=True)
        taker.start()
        with pytest.raises(ValueError, match="does not answer"):
            GalleryIndex.open(f"milvus:http://127.0.0.1:{listening.getsockname()[1]}")
        for stream, _ in taken:
            stream.close()


def test_calls_are_made_again_if_the_server_may_recover(connection):
    made = []

    def insert(rows, timeout):
        made.append(("insert", rows, timeout))
        raise OSError("server unavailable")

    def upsert(rows, timeout):
        made.append(("upsert", rows, timeout))
        if len(made) < 3:
            raise OSError("deadline exceeded")
        return "done"

    assert connection.call("a test", insert, [1], again=upsert, timeout=5) == "done"
    assert made == [("insert", [1], 5), ("upsert", [1], 5), ("upsert", [1], 5)]

    with pytest.raises(
        ValueError, match=r"a test: milvus:.*a\.db#photos does not answer: gone, timeout\."
    ):
        connection.call("a test", _failing("gone, timeout"))
    with pytest.raises(ValueError, match="reports an error: no such field"):
        connection.call("a test", _failing("no such field"))


def test_a_missing_token(connection, monkeypatch):
    far = MilvusAddress("http://host:1", "photos")
    monkeypatch.setattr(connection, "address", far)
    with pytest.raises(
        ValueError, match=r"refuses the token, or needs one: pass token=, set MILVUS_"
    ):
        connection.call("a test", _failing("auth check failure, please check api key is correct"))

    class RpcError(Exception):
        def details(self):
            return "auth check failure, please check username and password"

    def connect(timeout):
        raise RuntimeError("Fail connecting, server unavailable") from RpcError

    with pytest.raises(ValueError, match=r"refuses the token, or needs one.* says: auth check"):
        raise connection._sentence("a test", _error_of(connect))


def test_the_token_of_the_environment(monkeypatch):
    import pymilvus

    seen = []

    def client(uri, token, timeout, grpc_options):
        assert grpc_options["grpc.max_reconnect_backoff_ms"] == 1000  # grpc's own is 2 minutes
        seen.append((uri, token))
        raise RuntimeError("no such field")

    monkeypatch.setattr(pymilvus, "MilvusClient", client)
    monkeypatch.setenv("MILVUS_TOKEN", "secret")
    for token in (None, "other"):
        with pytest.raises(ValueError, match="no such field") as caught:
            GalleryIndex.open("milvus:http://host:1", token=token)
        assert "secret" not in str(caught.value)
    assert seen == [("http://host:1", "secret"), ("http://host:1", "other")]


def _failing(text):
    def fail(timeout):
        raise RuntimeError(text)

    return fail


def _error_of(function):
    with pytest.raises(RuntimeError) as caught:
        function(timeout=1)
    return caught.value
