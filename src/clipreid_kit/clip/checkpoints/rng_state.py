"""The state of every generator that a training draws from."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from clipreid_kit._checks import fail


def random_state() -> dict[str, Any]:
    """Take the state of the global generators of torch, CUDA, Python and NumPy, as plain data.

    Use it in the state that :class:`TrainingCheckpoints` saves, one of each process, so that a training that goes on
    after a pause draws what it would have drawn.

    Returns:
        Tensors, numbers and lists of them, which ``torch.load(..., weights_only=True)`` reads.

    Example:
        >>> state = random_state()
        >>> first = torch.rand(2)
        >>> set_random_state(state)
        >>> torch.equal(first, torch.rand(2))
        True
    """
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator is what other libraries draw from)
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), *rest],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Bring the global generators back to a state of :func:`random_state`; all of them, or none if it is damaged.

    Args:
        state: What it gave. States of GPUs that this machine has not are left out.

    Raises:
        ValueError: If it is not such a state.

    Example:
        >>> set_random_state(random_state())
        >>> set_random_state({})
        Traceback (most recent call last):
        ...
        ValueError: set_random_state: expected what random_state gave, got KeyError: 'python'. Begin anew, or seed them.
    """
    try:
        version, numbers, gauss = state["python"]
        name, keys, position, *rest = state["numpy"]
        python = (version, tuple(numbers), gauss)
        numpy = (name, np.array(keys, dtype=np.uint32), position, *rest)
        devices = list(state["cuda"])
        _try(python, numpy, state["cpu"], devices)
    except (
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
        OverflowError,
        AttributeError,
    ) as error:
        got = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise fail(
            "set_random_state", "what random_state gave", got, "Begin anew, or seed them."
        ) from None
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(state["cpu"])
    for device, own in enumerate(devices[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(own, device)


def _try(
    python: tuple[Any, ...], numpy: tuple[Any, ...], cpu: torch.Tensor, devices: list[torch.Tensor]
) -> None:
    """Set generators that nobody uses, and check what these let pass."""
    random.Random().setstate(python)  # noqa: S311
    np.random.RandomState().set_state(numpy)
    torch.Generator().set_state(cpu)
    if (
        not (python[2] is None or isinstance(python[2], float))
        or not 0 <= numpy[2] <= len(numpy[1]) == 624
    ):
        raise ValueError("numbers out of range")
    if not all(own.dtype == torch.uint8 and own.ndim == 1 for own in devices):
        raise ValueError("a GPU's state that is no row of bytes")
