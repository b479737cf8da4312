"""The number of threads that this process may use, and threads whose operations start no others.

Each parallel operation of torch ends where all of its OpenMP threads meet, and they spin while they
wait for each other. With thousands of short operations, two processes on the same cores take
several times as long as one after the other. Threads that each do a whole block of work, and run
every operation alone, meet once.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
S = TypeVar("S")

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def default_threads() -> int:
    """Return how many threads to use: as many as torch, and no more than cores that are usable.

    ``torch.set_num_threads`` and ``OMP_NUM_THREADS`` lower it.
    """
    return min(torch.get_num_threads(), usable_cores())


def usable_cores() -> int:
    """Return the number of cores that this process may use.

    The affinity of the process (``taskset``, Slurm) and the quota of its cgroup (containers) may
    allow fewer than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *_quotas(_CGROUPS, _own_cgroup(_OWN_CGROUP))]))


@lru_cache(maxsize=8)
def _quotas(root: Path, own_cgroup: str) -> tuple[int, ...]:
    """Return the whole cores that a cgroup, and those around it, allow.

    The files are read once: to read them takes a tenth of a search of a small gallery.
    """
    quotas = []
    folder = root
    for part in ("", *own_cgroup.split("/")):
        folder /= part
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0] != "max":
            quotas.append(int(words[0]) // int(words[1]))

    # version 1 of cgroups
    quota = _words(root / "cpu" / "cpu.cfs_quota_us")
    period = _words(root / "cpu" / "cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        quotas.append(int(quota[0]) // int(period[0]))
    return tuple(quotas)


@lru_cache(maxsize=8)
def _own_cgroup(file: Path) -> str:
    """Return the path of this process's cgroup below the root; empty in most containers."""
    for line in _words(file):
        if line.startswith("0::/"):
            return line.removeprefix("0::/")
    return ""


def _words(path: Path) -> list[str]:
    """Return the words of a small file; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []


class OwnThreads:
    """Threads of :func:`own_threads`.

    Args:
        count: Number of threads.
        pool: The threads; ``None`` to run everything in the calling thread.
    """

    def __init__(self, count: int, pool: ThreadPoolExecutor | None) -> None:
        self.count = count
        self._pool = pool
        # both settings belong to a thread: the calling one passes its own on
        is_inference = torch.is_inference_mode_enabled()
        self._guard = torch.inference_mode if is_inference else torch.no_grad

    def map(self, work: Callable[[S], T], items: Iterable[S]) -> Iterable[T]:
        """Return the results of all items, in order; without gradients."""
        if self._pool is None:
            return map(work, items)
        return self._pool.map(self._guard()(work), items)

    def call(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, which runs in one of the threads."""
        (result,) = self.map(lambda _: work(), [None])
        return result


@contextmanager
def own_threads(count: int) -> Iterator[OwnThreads]:
    """Yield threads in which every operation of torch runs on its thread alone.

    With ``count`` 1 the work runs in the calling thread, with the threads that torch has there.
    """
    if count == 1:
        yield OwnThreads(1, None)
        return

    with ThreadPoolExecutor(count) as pool:
        _use_one_thread_each(pool, count)
        yield OwnThreads(count, pool)


def _use_one_thread_each(pool: ThreadPoolExecutor, count: int) -> None:
    """Start all threads of a pool, and let torch use no others in them.

    ``torch.set_num_threads`` holds for the thread that calls it, and for threads that begin later.
    So the number of the calling thread is set again as soon as the pool has begun.
    """
    before = torch.get_num_threads()
    everyone = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread sets the number of the others
        torch.set_num_threads(1)
        everyone.wait()

    try:
        for _ in range(count):
            pool.submit(begin)
        everyone.wait()
    except BaseException:
        everyone.abort()
        raise
    finally:
        torch.set_num_threads(before)
