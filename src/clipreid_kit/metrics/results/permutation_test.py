"""Paired permutation test over identities."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_integer, check_seed, fail
from clipreid_kit.metrics._engine.id_columns import Ids, encode_array, id_array
from clipreid_kit.metrics.results._query_values import read_values

_CHUNK = 1 << 20  # signs that are held at once: 8 MB
_ROUNDING = 1e-12  # sums that differ by less, relative to their terms, are equal


class PermutationTest(NamedTuple):
    """The outcome of a permutation test.

    Attributes:
        p_value: Two-sided p-value, above 0 and at most 1.
        is_exact: Whether every permutation was counted, rather than a sample of them.
    """

    p_value: float
    is_exact: bool


def paired_permutation_test(
    differences: Tensor | npt.NDArray[Any],
    groups: Ids,
    *,
    num_samples: int = 10_000,
    seed: int = 0,
) -> PermutationTest:
    """Test whether two models differ, by swapping their values identity by identity.

    If the models were equally good, each identity could have had its two results the other way
    round, which turns the sign of its differences. The p-value is the share of such swaps whose
    mean is at least as far from 0 as the one observed. Queries of one identity are swapped
    together, since they are not independent.

    Args:
        differences: Value of one model minus that of the other, for each query; NaN for queries
            that do not count.
        groups: Identity of each query (or whatever is to be swapped together): integers or strings.
        num_samples: Number of random swaps. If there are no more swaps than that, each of them is
            counted once, and the p-value is exact; otherwise the observed one is counted as well,
            so that the p-value is never 0.
        seed: Seed of a separate generator; the same seed gives the same p-value.

    Raises:
        ValueError: If lengths disagree, a value is infinite, fewer than two groups have a value, or
            an option is out of its range.

    Example:
        >>> # three identities, each in favour of one model: 2 of 8 swaps are as extreme
        >>> paired_permutation_test(np.array([0.2, 0.1, 0.3, 0.1]), ["a", "a", "b", "c"])
        PermutationTest(p_value=0.25, is_exact=True)

    References:
        Smucker, Allan and Carterette, A comparison of statistical significance tests for
        information retrieval evaluation, CIKM 2007. Phipson and Smyth, Permutation p-values should
        never be zero, 2010.
    """
    owner = "paired_permutation_test"
    check_integer(owner, "num_samples", num_samples, 1)
    check_seed(owner, seed)

    values = read_values(owner, "differences", differences)
    codes = encode_array(id_array(owner, "groups", groups, len(values)))
    is_counted = ~np.isnan(values)
    codes = encode_array(codes[is_counted])
    num_groups = len(np.unique(codes))
    if num_groups < 2:
        remedy = "One identity can only be swapped with itself."
        raise fail(owner, "at least two groups with a value", num_groups, remedy)

    # Identities without a difference are the same either way.
    sums = np.bincount(codes, values[is_counted])
    sums = sums[sums != 0]

    is_exact = 2 ** len(sums) <= num_samples
    num_swaps = 2 ** len(sums) if is_exact else num_samples
    signs = _every_sign(len(sums)) if is_exact else _random_signs(len(sums), num_samples, seed)

    # Sums of the same numbers in another order may differ in their last digits.
    least = abs(sums.sum()) - _ROUNDING * np.abs(sums).sum()
    num_extreme = 0
    for block in signs:
        num_extreme += int((np.abs(block @ sums) >= least).sum())

    if is_exact:
        return PermutationTest(num_extreme / num_swaps, is_exact=True)
    return PermutationTest((num_extreme + 1) / (num_swaps + 1), is_exact=False)


def _every_sign(num_groups: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield all 2^G rows of signs, in blocks."""
    bits = np.arange(num_groups)
    step = max(1, _CHUNK // max(1, num_groups))
    for start in range(0, 2**num_groups, step):
        numbers = np.arange(start, min(start + step, 2**num_groups))
        is_swapped = numbers[:, None] >> bits & 1
        yield 1.0 - 2.0 * is_swapped.astype(np.float64)


def _random_signs(
    num_groups: int, num_samples: int, seed: int
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield rows of random signs, in blocks."""
    generator = torch.Generator().manual_seed(seed)
    step = max(1, _CHUNK // num_groups)
    for start in range(0, num_samples, step):
        shape = (min(step, num_samples - start), num_groups)
        is_swapped = torch.randint(2, shape, generator=generator, dtype=torch.int8, device="cpu")
        yield 1.0 - 2.0 * is_swapped.numpy().astype(np.float64)
