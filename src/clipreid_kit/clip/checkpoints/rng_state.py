"""Save and restore the state of the global random number generators."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_NUM_KEYS = 624  # of NumPy's Mersenne Twister

# errors that a damaged state causes in one generator or another
_DAMAGED = (LookupError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError)


def random_state() -> dict[str, Any]:
    """Return the state of the global generators of torch, CUDA, Python and NumPy, as plain data.

    Use it in the state that :class:`TrainingCheckpoints` saves, so that a resumed run draws the
    numbers that it would have drawn. Call it on every rank, and restore each rank's own state.

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
    # other libraries draw from NumPy's global generator
    name, keys, *rest = np.random.get_state()  # noqa: NPY002

    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), *rest],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore the global generators to a state from :func:`random_state`.

    Either all of them are set or, if the state is damaged, none.

    Args:
        state: The state. States of GPUs that this machine does not have are ignored.

    Raises:
        ValueError: If it is not such a state.

    Example:
        >>> set_random_state(random_state())
        >>> set_random_state({})
        Traceback (most recent call last):
        ...
        ValueError: set_random_state: This is not a state of `random_state` (KeyError: 'python').
    """
    try:
        states = _unpack(state)
        _try_out(states)
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ValueError(
            f"set_random_state: This is not a state of `random_state` ({reason})."
        ) from None

    random.setstate(states.python)
    np.random.set_state(states.numpy)  # noqa: NPY002
    torch.set_rng_state(states.cpu)
    for device, device_state in enumerate(states.cuda[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device_state, device)


class _States(NamedTuple):
    """States in the forms that the generators accept."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    cpu: Tensor
    cuda: list[Tensor]


def _unpack(state: Mapping[str, Any]) -> _States:
    version, numbers, gauss = state["python"]
    name, keys, position, *rest = state["numpy"]

    return _States(
        python=(version, tuple(numbers), gauss),
        numpy=(name, np.array(keys, dtype=np.uint32), position, *rest),
        cpu=state["cpu"],
        cuda=list(state["cuda"]),
    )


def _try_out(states: _States) -> None:
    """Set generators that nobody uses, and check what they accept without a check."""
    random.Random().setstate(states.python)  # noqa: S311
    np.random.RandomState().set_state(states.numpy)
    torch.Generator().set_state(states.cpu)

    gauss = states.python[2]
    if gauss is not None and not isinstance(gauss, float):
        raise ValueError("Python's second Gaussian is no number")

    keys, position = states.numpy[1], states.numpy[2]
    if len(keys) != _NUM_KEYS or not 0 <= position <= _NUM_KEYS:
        raise ValueError("NumPy's position is out of range")

    if not all(device.dtype == torch.uint8 and device.ndim == 1 for device in states.cuda):
        raise ValueError("a GPU's state is not a row of bytes")
