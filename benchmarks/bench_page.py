"""The search page under load: clients that search a gallery by an image of it, end to end.

The server runs in a process of its own, as ``clipreid serve`` does. Every client sends one search
after another, by the key of an image whose vector is stored, so that no model has a part in it; the
time is that from the request to the whole answer. ``cpu ms`` is what the server computes for one
search, which other programs of the machine change least.

With ``--against`` a second server runs from another source tree, and they are loaded in turns.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import machine
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex

_START = 600.0  # seconds that the server may take to start on a busy machine


class Server(NamedTuple):
    """A server that runs."""

    port: int
    process: int


class Measured(NamedTuple):
    """What one load has shown."""

    p50: float
    p95: float
    rate: float
    cpu: float
    failed: float


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="images of the gallery")
    parser.add_argument("--dim", type=int, default=512, help="width of the embeddings")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=400, help="searches in all, at each number")
    parser.add_argument("--turns", type=int, default=3, help="how often each number is measured")
    parser.add_argument("--against", type=Path, help="a source tree to compare with")
    parser.add_argument("-k", type=int, default=24, help="hits of a search")
    return parser.parse_args()


def build(options: argparse.Namespace, store: Path) -> None:
    """Write an index of random rows."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((options.rows, options.dim), dtype=np.float32)
    records = [
        ImageRecord(f"images/{i:08d}.jpg", identity=i // 20, camera=i % 6, split="gallery")
        for i in range(options.rows)
    ]
    GalleryIndex.build(rows, records, store=store)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + _START
    while not is_up(port):
        if time.monotonic() > until:
            raise RuntimeError(f"the server did not start in {_START:g} seconds")
        time.sleep(0.2)


def is_up(port: int) -> bool:
    """Whether the server answers a search."""
    try:
        return ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), 0, 1)[0] == 200
    except OSError:
        return False


def ask(connection: http.client.HTTPConnection, key: int, k: int) -> tuple[int, bytes]:
    """Search by an image of the index; return the status and the answer."""
    body = json.dumps({"query": {"key": key}, "k": k})
    connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def load(port: int, clients: int, requests: int, rows: int, k: int) -> tuple[list[float], int]:
    """Send searches from some clients at once; return their seconds, and how many failed."""
    seconds: list[float] = []
    failed: list[int] = []

    def client(number: int) -> None:
        rng = np.random.default_rng(number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(max(1, requests // clients)):
            key = int(rng.integers(rows))
            began = time.perf_counter()
            status, _ = ask(connection, key, k)
            seconds.append(time.perf_counter() - began)
            if status != 200:
                failed.append(status)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, len(failed)


@contextmanager
def server_of(store: Path, source: Path | None) -> Iterator[Server]:
    """Run a server of this source tree, or of another."""
    port = free_port()
    command = [sys.executable, "-m", "clipreid_kit", "serve", str(store), "--port", str(port)]
    environment = dict(os.environ)
    if source is not None:
        environment["PYTHONPATH"] = str(source / "src")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        wait_for(port)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(process: int) -> float:
    """Return what a process has computed so far; NaN where there is no /proc."""
    file = Path(f"/proc/{process}/stat")
    if not file.is_file():
        return float("nan")
    user, system = file.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(server: Server, clients: int, options: argparse.Namespace) -> Measured:
    """Load a server once."""
    began, cpu = time.perf_counter(), cpu_seconds(server.process)
    seconds, failed = load(server.port, clients, options.requests, options.rows, options.k)
    took, cpu = time.perf_counter() - began, cpu_seconds(server.process) - cpu
    return Measured(
        1000 * statistics.median(seconds),
        1000 * statistics.quantiles(seconds, n=20)[-1],
        len(seconds) / took,
        1000 * cpu / len(seconds),
        float(failed),
    )


def main() -> None:
    """Print the latency at each number of clients: medians over the turns."""
    options = parse_options()
    print(machine())
    print(f"{options.rows} x {options.dim}, {options.k} hits, {os.cpu_count()} cores")
    sources = {"here": None}
    if options.against is not None:
        sources["against"] = options.against

    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        store = Path(folder) / "gallery.index"
        build(options, store)
        servers = {
            name: running.enter_context(server_of(store, source))
            for name, source in sources.items()
        }
        for server in servers.values():  # checks the files that are read first
            load(server.port, 2, 20, options.rows, options.k)

        print("clients  tree     p50 ms  p95 ms  searches/s  cpu ms  failed")
        for clients in options.clients:
            turns = [
                {name: measure(server, clients, options) for name, server in servers.items()}
                for _ in range(options.turns)
            ]
            for name in servers:
                medians = [
                    statistics.median(values)
                    for values in zip(*(turn[name] for turn in turns), strict=True)
                ]
                p50, p95, rate, cpu, failed = medians
                print(
                    f"{clients:7}  {name:7}  {p50:6.1f}  {p95:6.1f}  {rate:10.0f}  {cpu:6.1f}  "
                    f"{failed:6.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
