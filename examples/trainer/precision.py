"""Whether a precision is slower than float32 where a run trains."""

import time

import torch

_SLOWER = 1.5  # times as long as float32, from which on a run says so
_ROWS, _DIM = 64, 512  # of a layer that is tried
_TRIES = 3


def slow_precision(precision: str, device: torch.device) -> str | None:
    """Return what to say of a precision that slows the run down; ``None`` of any other.

    Processors without instructions for bfloat16 take many times as long for its products.
    """
    if precision != "bf16" or device.type != "cpu":
        return None

    ratio = _seconds(torch.bfloat16) / _seconds(torch.float32)
    if ratio < _SLOWER:
        return None
    return (
        f"precision: bf16 is slow on this processor: a layer takes {ratio:.0f} times as long as in "
        "float32; use precision: no."
    )


def _seconds(dtype: torch.dtype) -> float:
    """Return the seconds of a layer forward and backward: the best of some tries."""
    # not a module, which would draw random numbers of the run
    weight = torch.ones(_DIM, _DIM, dtype=dtype, requires_grad=True)
    rows = torch.ones(_ROWS, _DIM, dtype=dtype)

    times = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        torch.autograd.backward((rows @ weight).sum())
        times.append(time.perf_counter() - began)
    return min(times)
