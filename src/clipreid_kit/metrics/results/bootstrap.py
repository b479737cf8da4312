"""How far a mean over queries may be from that of other identities."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_integer, check_seed, fail
from clipreid_kit.metrics._engine.embedding_rows import as_array
from clipreid_kit.metrics._engine.identity_matches import Ids, flat

_CHUNK = 1 << 20  # draws that are held together: 8 MB


class ConfidenceInterval(NamedTuple):
    """A mean and its confidence interval.

    Attributes:
        mean: Mean of the values as they are.
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
    """Confidence interval of a mean over queries, by drawing identities with replacement.

    Queries of one identity are hard or easy together, so a query is not a draw of its own: an interval over single
    queries is too narrow. For the difference of two models give the differences of their values, query by query: that
    tells more than two intervals.

    Args:
        values: A measure of each query, such as ``result.average_precision`` or ``result.of_each("recall", 5)``;
            NaN where a query takes no part.
        groups: Identity of each query (or whatever was drawn together): integers or strings.
        confidence: Share of samples inside, above 0 and below 1.
        num_samples: Samples, each of as many identities as there are.
        seed: Of a generator of its own; the same seed gives the same interval.

    Returns:
        The mean, and the two percentiles of the samples' means (each sample's mean is over its queries).

    Raises:
        ValueError: If lengths disagree, a value is infinite, fewer than two groups have a value, or an option is out
            of its range.

    Example:
        >>> interval = bootstrap_interval(np.array([1.0, 1.0, 0.0, 0.0, np.nan]), ["a", "a", "b", "b", "c"])
        >>> interval.mean, interval.low, interval.high  # two identities: both the same in half of the samples
        (0.5, 0.0, 1.0)

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (percentile interval). Field and
        Welsh, Bootstrapping clustered data, JRSS B 2007.
    """
    owner = "bootstrap_interval"
    check_integer(owner, "num_samples", num_samples, 1)
    check_seed(owner, seed)
    if not 0 < confidence < 1:
        raise fail(owner, "confidence above 0 and below 1", confidence)
    array = (
        values.detach().cpu().double().numpy()
        if isinstance(values, Tensor)
        else as_array(owner, "values", values)
    )
    if array.dtype.kind not in "fiub":
        raise fail(owner, "values as numbers", f"{array.dtype}")
    array = array.astype(np.float64)
    if array.ndim != 1:
        raise fail(owner, "values as a vector, one for each query", f"shape {array.shape}")
    codes = np.unique(flat(owner, "groups", groups, len(array)), return_inverse=True)[1]
    kept = ~np.isnan(array)
    if np.isinf(array).any():
        raise fail(owner, "finite values, or NaN for queries that take no part", "infinity")
    codes = np.unique(codes[kept], return_inverse=True)[1]
    counts = np.bincount(codes)
    if len(counts) < 2:
        raise fail(
            owner,
            "at least two groups with a value",
            len(counts),
            "One identity says nothing about others.",
        )
    sums = torch.from_numpy(np.bincount(codes, array[kept]))
    sizes = torch.from_numpy(counts).double()
    rng = torch.Generator().manual_seed(seed)
    means = []
    step = max(1, _CHUNK // len(counts))
    for start in range(0, num_samples, step):
        drawn = torch.randint(
            len(counts), (min(step, num_samples - start), len(counts)), generator=rng
        )
        means.append(sums[drawn].sum(dim=1) / sizes[drawn].sum(dim=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(torch.cat(means).numpy(), [tail, 1 - tail])
    return ConfidenceInterval(float(array[kept].mean()), float(low), float(high))
