"""Time and memory of contenders, measured in turns within one process."""

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
from pathlib import Path

import torch

Work = Callable[[], object]
Clock = Callable[[], float]
OURS = "clipreid_kit"


def interleaved(
    contenders: Mapping[str, Work], repeats: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each contender, after one warm-up that is not measured.

    The contenders take turns, in another order each time, because the previous one counts: after
    one that fills the caches and frees hundreds of megabytes, all are slower.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders.items())
    rng = random.Random(0)

    for turn in range(repeats + 1):
        rng.shuffle(order)
        for name, work in order:
            began = clock()
            work()
            if torch.cuda.is_initialized():  # a GPU may still be at work
                torch.cuda.synchronize()
            if turn > 0:
                times[name].append(clock() - began)

    return {name: statistics.median(values) for name, values in times.items()}


def added_memory(work: Work) -> float:
    """Peak resident memory in MB that a piece of work adds, by sampling; small values are noise."""
    before = _resident_memory()
    peak = before
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.is_set():
            peak = max(peak, _resident_memory())
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    stop.set()
    thread.join()
    return max(peak - before, 0.0)


def memory_in_a_process(module: str, name: str, *options: str) -> float:
    """Peak memory in MB that a contender adds in a fresh process.

    ``python -m module ... --memory name`` has to print :func:`peak_memory` of it last.
    """
    command = [sys.executable, "-m", module, *options, "--memory", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def peak_memory(work: Work, device: str = "cpu") -> float:
    """Peak memory in MB that the first run of a piece of work adds, on the CPU or a GPU.

    On the CPU it is the resident memory as the kernel counts it.
    """
    if device != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6

    # release the memory that making the inputs left behind, and reset the kernel's peak
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    before = _status("VmRSS")
    work()
    return max(_status("VmHWM") - before, 0) * 1024 / 1e6


def machine(*packages: str, device: str = "cpu") -> str:
    """Processor, threads, load and versions in one line, and the GPU if one is in use."""
    processor = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if hasattr(os, "getloadavg"):
        processor += f", load {os.getloadavg()[0]:.1f}"
    if device != "cpu":
        processor = f"{torch.cuda.get_device_name(device)}; {processor}"

    versions = [f"{package} {version(package)}" for package in ("torch", "numpy", *packages)]
    return f"{processor}; Python {platform.python_version()}, {', '.join(versions)}"


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


def _resident_memory() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def _status(key: str) -> int:
    """A value of ``/proc/self/status`` in kB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise ValueError(f"/proc/self/status has no {key}.")
