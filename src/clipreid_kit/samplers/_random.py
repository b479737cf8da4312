"""Random numbers that depend on a seed alone."""

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit.samplers._integers import IntArray

KEY_BITS = 31  # of a random key that orders rows


def seeded_generator(*numbers: int) -> torch.Generator:
    """Return a generator seeded by all the numbers: seed, epoch, and number of the stream."""
    mixed = int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(mixed >> 1)


def permutation(size: int, rng: torch.Generator) -> IntArray:
    """Return the numbers below ``size`` in a random order."""
    return torch.randperm(size, generator=rng).numpy()


def random_keys(size: int, rng: torch.Generator) -> npt.NDArray[np.int32]:
    """Return ``size`` random numbers of ``KEY_BITS`` bits."""
    return torch.empty(size, dtype=torch.int32).random_(generator=rng).numpy()
