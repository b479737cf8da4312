"""Runs that can be repeated to the last bit on a GPU."""

import contextlib
import os
from collections.abc import Iterator

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms alone, and as before at the end.

    An operation that has none on the GPU raises torch's RuntimeError. ``False`` changes nothing.
    """
    if not wanted:
        yield
        return

    before = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()

    os.environ.setdefault(_WORKSPACE, ":4096:8")  # without it cuBLAS may sum in another order
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warns)
