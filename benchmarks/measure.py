"""Interleaved timing and added memory: contenders take turns, medians are compared within one run."""

import ctypes
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch

Work = Callable[[], object]
OURS = "clipreid_kit"


def interleaved(contenders: Mapping[str, Work], repeats: int) -> dict[str, float]:
    """Median seconds of each contender; one unmeasured warm-up each, then they take turns, in another order each time.

    What ran before counts: after a contender that fills the caches and frees hundreds of megabytes all are slower.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order, rng = list(contenders.items()), random.Random(0)
    for turn in range(repeats + 1):
        rng.shuffle(order)
        for name, work in order:
            began = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def added_memory(work: Work) -> float:
    """Peak resident memory that a piece of work adds, in MB, by sampling; small values are noise."""
    peak, stop = [0.0], threading.Event()

    def resident() -> float:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (not a path of ours)
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6

    before = resident()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], resident())
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    stop.set()
    thread.join()
    return max(peak[0] - before, 0.0)


def memory_in_a_process(module: str, name: str, *options: str) -> float:
    """The same in a fresh process: ``python -m module ... --memory name`` has to print :func:`peak_memory`."""
    command = [sys.executable, "-m", module, *options, "--memory", name]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def peak_memory(work: Work, device: str = "cpu") -> float:
    """Peak memory that the first run of a piece of work adds, in MB: resident, as the kernel counts it, or a GPU's."""
    if device != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        given = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - given) / 1e6

    def status(key: str) -> int:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 (not a path of ours)
            return next(int(line.split()[1]) for line in file if line.startswith(key))

    ctypes.CDLL(None).malloc_trim(0)  # what making the inputs has left behind
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("5")  # the peak so far is forgotten
    before = status("VmRSS")
    work()
    return max(status("VmHWM") - before, 0) * 1024 / 1e6


def machine(*packages: str, device: str = "cpu") -> str:
    """One line: processor, threads, versions, and the GPU if there is one in use."""
    found = [f"{package} {version(package)}" for package in ("torch", "numpy", *packages)]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    gpu = "" if device == "cpu" else f"{torch.cuda.get_device_name(device)}; "
    return (
        f"{gpu}{platform.machine()}, {torch.get_num_threads()} threads{load}; Python {platform.python_version()}, "
        + (", ".join(found))
    )


def show(
    title: str,
    seconds: Mapping[str, float],
    ours: str = OURS,
    memory: Mapping[str, float] | None = None,
) -> None:
    """Print a table: milliseconds, how many times ours is faster, and the added memory."""
    print(f"\n{title}")
    for name, value in seconds.items():
        ratio = "" if name == ours else f"{value / seconds[ours]:6.2f}x ours"
        added = f"  +{memory[name]:.0f} MB" if memory and name in memory else ""
        print(f"  {name:42}{1000 * value:12.2f} ms {ratio:12}{added}")
