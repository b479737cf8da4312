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
    """Bring the global generators back to a state of :func:`random_state`.

    Args:
        state: What it gave. States of GPUs that this machine has not are left out.

    Raises:
        ValueError: If it is not such a state.
    """
    try:
        version, numbers, gauss = state["python"]
        name, keys, *rest = state["numpy"]
        torch.set_rng_state(state["cpu"])
        for device, own in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(own, device)
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise fail("set_random_state", "what random_state gave", f"{type(error).__name__}: {error}") from None
