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
    return torch.randperm(size, generator=rng, device="cpu").numpy()


def random_keys(size: int, rng: torch.Generator) -> npt.NDArray[np.int32]:
    """Return ``size`` random numbers of ``KEY_BITS`` bits."""
    return torch.empty(size, dtype=torch.int32, device="cpu").random_(generator=rng).numpy()


def random_key_of(stream: int, numbers: IntArray) -> IntArray:
    """Return the random key of ``KEY_BITS`` bits that each number has in a stream: SplitMix64.

    The key of one number does not need those of the others.

    Args:
        stream: Seed of the stream.
        numbers: Numbers, at least 0.

    References:
        Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    word = np.uint64(stream) + numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    return (word >> np.uint64(64 - KEY_BITS)).astype(np.int64)
