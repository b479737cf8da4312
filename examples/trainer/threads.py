"""The number of torch's threads during a run."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads_of_torch(count: int | None) -> Iterator[None]:
    """Let torch use so many threads, and as many as before at the end; ``None`` changes nothing."""
    if count is None:
        yield
        return

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
