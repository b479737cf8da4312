"""A function on two ranks, each a process, connected by gloo."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from forking_server import forking_context


def on_two_ranks(find: Callable[[int], Any], folder: Path) -> dict[int, Any]:
    """Run a function on each of two ranks, and return its results by rank.

    Args:
        find: A function of a test's module.
        folder: An empty folder, through which the ranks find each other.
    """
    context = forking_context()
    queue, done = context.Queue(), context.Event()
    processes = [
        context.Process(target=_rank, args=(find, rank, str(folder / "store"), queue, done))
        for rank in range(2)
    ]
    for process in processes:
        process.start()

    results = [queue.get(timeout=900) for _ in processes]
    done.set()
    for process in processes:
        process.join(timeout=300)
        assert process.exitcode == 0

    assert [error for _, _, error in results if error] == []
    return {rank: found for rank, found, _ in results}


def _rank(find: Callable[[int], Any], rank: int, store: str, queue: Any, done: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        queue.put((rank, find(rank), ""))
    except Exception:  # noqa: BLE001 (shown by the caller)
        queue.put((rank, None, traceback.format_exc()))

    done.wait(120)  # gloo aborts a process whose peer leaves while it still reads
    queue.close()
    queue.join_thread()
    os._exit(0)  # its threads may abort while the interpreter ends
