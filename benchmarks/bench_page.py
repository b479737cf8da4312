"""The search page under load: clients that search a gallery by an image of it, end to end.

The server runs in a process of its own, as ``clipreid serve`` does. Every client sends one search
after another, by the key of an image whose vector is stored, so that no model has a part in it; the
time is that from the request to the whole answer.
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
from pathlib import Path

import numpy as np

from benchmarks.measure import machine
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex

_START = 120.0  # seconds that the server may take to start


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="images of the gallery")
    parser.add_argument("--dim", type=int, default=512, help="width of the embeddings")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=400, help="searches in all, at each number")
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


def main() -> None:
    """Print the latency at each number of clients."""
    options = parse_options()
    print(machine())
    print(f"{options.rows} x {options.dim}, {options.k} hits, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "gallery.index"
        build(options, store)
        port = free_port()
        command = [sys.executable, "-m", "clipreid_kit", "serve", str(store), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            load(port, 2, 20, options.rows, options.k)  # checks the files that are read first
            print("clients  p50 ms  p95 ms  searches/s  failed")
            for clients in options.clients:
                began = time.perf_counter()
                seconds, failed = load(port, clients, options.requests, options.rows, options.k)
                rate = len(seconds) / (time.perf_counter() - began)
                cuts = statistics.quantiles(seconds, n=20)
                print(
                    f"{clients:7}  {1000 * statistics.median(seconds):6.1f}  "
                    f"{1000 * cuts[-1]:6.1f}  {rate:10.0f}  {failed:6}"
                )
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
