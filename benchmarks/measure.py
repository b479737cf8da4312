"""Interleaved timing: contenders take turns, medians are compared within one run."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch


def interleaved(contenders: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each contender; one unmeasured warm-up each, then they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, work in contenders.items():
            began = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def machine(*packages: str) -> str:
    """One line: processor, threads, versions."""
    found = [f"{package} {version(package)}" for package in ("torch", "numpy", *packages)]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {torch.get_num_threads()} threads{load}; Python {platform.python_version()}, " + (
        ", ".join(found)
    )


def show(title: str, seconds: Mapping[str, float], ours: str) -> None:
    """Print a table: milliseconds, and how many times ours is faster."""
    print(f"\n{title}")
    for name, value in seconds.items():
        ratio = "" if name == ours else f"{value / seconds[ours]:8.2f}x ours"
        print(f"  {name:42}{1000 * value:12.2f} ms {ratio}")
