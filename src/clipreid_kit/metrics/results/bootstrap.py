"""Confidence intervals of means over queries, by resampling identities."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_integer, check_number, check_seed, fail
from clipreid_kit.metrics._engine.id_columns import Ids, encode_array, id_array
from clipreid_kit.metrics.results._query_values import read_values

_CHUNK = 1 << 20  # draws that are held at once: 8 MB


class ConfidenceInterval(NamedTuple):
    """A mean and its confidence interval.

    Attributes:
        mean: Mean of the values themselves.
        low: Lower end.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Tensor | npt.NDArray[Any],
    groups: Ids,
    *,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> ConfidenceInterval:
    """Compute the confidence interval of a mean over queries, drawing identities with replacement.

    Queries of one identity succeed and fail together, so they are not independent draws: an
    interval over single queries is too narrow. To compare two models, pass the differences of their
    values query by query: the interval of the differences says more than two intervals.

    Args:
        values: A measure of each query, such as ``result.average_precision`` or
            ``result.of_each("recall", 5)``; NaN for queries that do not count.
        groups: Identity of each query (or whatever is to be drawn together): integers or strings.
        confidence: Share of samples inside the interval, above 0 and below 1.
        num_samples: Number of samples; each draws as many identities as there are.
        seed: Seed of a separate generator; the same seed gives the same interval.

    Returns:
        The mean, and the two percentiles of the samples' means (a sample's mean is over its
        queries).

    Raises:
        ValueError: If lengths disagree, a value is infinite, fewer than two groups have a value, or
            an option is out of its range.

    Example:
        >>> values = np.array([1.0, 1.0, 0.0, 0.0, np.nan])
        >>> interval = bootstrap_interval(values, ["a", "a", "b", "b", "c"])
        >>> interval  # two identities: half of the samples draw the same one twice
        ConfidenceInterval(mean=0.5, low=0.0, high=1.0)

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (percentile
        interval). Field and Welsh, Bootstrapping clustered data, JRSS B 2007.
    """
    owner = "bootstrap_interval"
    check_integer(owner, "num_samples", num_samples, 1)
    check_seed(owner, seed)
    check_number(owner, "confidence", confidence)
    if not 0 < confidence < 1:
        raise fail(owner, "confidence above 0 and below 1", confidence)

    array = read_values(owner, "values", values)
    codes = encode_array(id_array(owner, "groups", groups, len(array)))
    is_counted = ~np.isnan(array)
    codes = encode_array(codes[is_counted])
    counts = np.bincount(codes)
    num_groups = len(counts)
    if num_groups < 2:
        raise fail(
            owner,
            "at least two groups with a value",
            num_groups,
            "The spread between identities is unknown otherwise.",
        )

    sums = torch.from_numpy(np.bincount(codes, array[is_counted]))
    sizes = torch.from_numpy(counts).double()
    generator = torch.Generator().manual_seed(seed)
    means = []
    step = max(1, _CHUNK // num_groups)
    for start in range(0, num_samples, step):
        shape = min(step, num_samples - start), num_groups
        drawn = torch.randint(num_groups, shape, generator=generator, device="cpu")
        means.append(sums[drawn].sum(dim=1) / sizes[drawn].sum(dim=1))

    tail = (1 - confidence) / 2
    low, high = np.quantile(torch.cat(means).numpy(), [tail, 1 - tail])
    return ConfidenceInterval(float(array[is_counted].mean()), float(low), float(high))
