"""From counts of non-matches to ranks, average precision and inverse negative penalty."""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from clipreid_kit._threads import default_threads, own_threads
from clipreid_kit.metrics._engine.match_counts import MatchCounts

Ties = Literal["pessimistic", "optimistic", "mean"]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_LARGEST = 2**63 - 1
_CACHED = 1 << 17  # matches that are measured at once: their numbers fit the cache
_WORTH_THREADS = 8  # such parts pay for threads
_SUM_BITS = 51  # of a sum in float64 that no sum of parts needs more than
_FRACTION_BITS = 52  # of a number in float64, below its leading bit


class QueryMeasures(NamedTuple):
    """Measures of each query; NaN (a rank of 0) for queries without a match.

    Attributes:
        average_precision: AP.
        inverse_negative_penalty: INP.
        first_rank: Rank of the first match.
        num_positives: Number of matches.
    """

    average_precision: FloatArray
    inverse_negative_penalty: FloatArray
    first_rank: FloatArray | IntArray
    num_positives: IntArray


def match_ranks(matches: MatchCounts, ties: Ties) -> FloatArray | IntArray:
    r"""Return the rank of every match, from 1, ascending for each query.

    With ``"mean"`` it is the expected rank under a random order of ties: the j-th of r matches tied
    with t non-matches has :math:`t j / (r + 1)` of them above it.
    """
    return _ranks(matches, _count_found(matches), ties)


def _ranks(matches: MatchCounts, num_found: IntArray, ties: Ties) -> FloatArray | IntArray:
    """Return the rank of every match, given the number of matches found with it."""
    above, tied = _ascending(matches)
    if ties == "optimistic":
        return num_found + above
    if ties == "pessimistic":
        lowest: IntArray = num_found + above
        lowest += tied
        return lowest

    query = matches.query
    # matches that are tied with non-matches are equally near if and only if both counts agree
    key = np.stack([query, above, tied])
    is_new = np.append(True, (key[:, 1:] != key[:, :-1]).any(axis=0))
    starts = np.flatnonzero(is_new[: len(query)])
    group_size = np.diff(np.append(starts, len(query)))
    group = np.repeat(np.arange(len(starts)), group_size)
    position = np.arange(1, len(query) + 1) - starts[group]
    ranks: FloatArray = num_found + above + tied * position / (group_size[group] + 1)
    return ranks


def _count_found(matches: MatchCounts) -> IntArray:
    """Return 1, 2, ... for the matches of every query."""
    num_found = np.arange(1, len(matches.rows) + 1)
    num_found -= np.repeat(matches.begin[:-1], np.diff(matches.begin))
    return num_found


def _ascending(matches: MatchCounts) -> tuple[IntArray, IntArray]:
    """Return both counts of every match, ascending by the first and then by the second."""
    base = int(matches.tied.max(initial=0)) + 1
    if base > 1 and int(matches.above.max()) >= _LARGEST // base:
        order = np.lexsort((matches.tied, matches.above, matches.query))
        return matches.above[order], matches.tied[order]

    # both in one integer: sorting those of a query is far faster than sorting positions
    counts = matches.above * base + matches.tied if base > 1 else matches.above
    is_descent = counts[1:] < counts[:-1]
    is_descent[matches.begin[(matches.begin > 0) & (matches.begin < len(counts))] - 1] = False
    descents = np.flatnonzero(is_descent)
    if len(descents) == 0:
        return matches.above, matches.tied

    counts = counts.copy()
    unsorted = np.flatnonzero(np.diff(descents.searchsorted(matches.begin)))
    for first, last in zip(
        matches.begin[unsorted].tolist(), matches.begin[unsorted + 1].tolist(), strict=True
    ):
        counts[first:last].sort()

    above, tied = np.divmod(counts, base) if base > 1 else (counts, matches.tied)
    return above, tied


def _sum_exactly(values: FloatArray, begin: IntArray) -> FloatArray:
    """Sum ranges of numbers in (0, 1], each sum rounded once: the order does not matter.

    The numbers are cut into parts, the k-th of them multiples of 2^-bk, so that no sum of parts is
    rounded: at most 2^(51 - b) numbers, each at most 2^-b(k - 1). What is left is summed as soon as
    float64 holds all sums of such numbers.

    Args:
        values: (N,).
        begin: (M,), where each range begins; ascending, and none is empty.
    """
    longest = int(np.diff(begin, append=len(values)).max())
    unit_step = 2.0 ** (longest.bit_length() - _SUM_BITS)
    # all numbers are multiples of the last bit of the smallest
    last_bit = math.ldexp(0.5, math.frexp(float(values.min()))[1] - _FRACTION_BITS)
    largest_sum = last_bit * 2.0 ** (_FRACTION_BITS + 1)

    totals = []
    unit = 1.0
    rest = values
    largest = 1.0
    while longest * largest > largest_sum:
        unit *= unit_step
        shift = 1.5 * 2.0**52 * unit  # numbers of this size are multiples of the unit
        part = rest + shift
        part -= shift
        rest = rest - part
        largest = unit / 2
        totals.append(np.add.reduceat(part, begin))

    totals.append(np.add.reduceat(rest, begin))
    if len(totals) <= 2:  # a single sum is rounded once
        return sum(totals[1:], start=totals[0])

    columns = [total.tolist() for total in totals]
    return np.array([math.fsum(parts) for parts in zip(*columns, strict=True)])


def measure_queries(matches: MatchCounts, ties: Ties) -> QueryMeasures:
    """Compute the measures of each query from the ranks of its matches."""
    num_queries = len(matches.begin) - 1
    ranges = []
    first = 0
    while first < num_queries:  # as many queries as the cache holds matches of
        limit = matches.begin[first] + _CACHED
        last = max(first + 1, int(matches.begin.searchsorted(limit, side="right")) - 1)
        ranges.append((first, last))
        first = last

    def measure(span: tuple[int, int]) -> QueryMeasures:
        return _measure_part(matches.part(*span), ties)

    num_threads = default_threads() if len(ranges) >= _WORTH_THREADS else 1
    with own_threads(num_threads) as threads:
        parts = list(threads.map(measure, ranges))
    return QueryMeasures(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _measure_part(matches: MatchCounts, ties: Ties) -> QueryMeasures:
    """Compute the measures of some queries."""
    num_queries = len(matches.begin) - 1
    num_positives: IntArray = np.diff(matches.begin)
    valid = np.flatnonzero(num_positives)
    num_found = _count_found(matches)
    ranks = _ranks(matches, num_found, ties)

    average_precision = np.full(num_queries, np.nan)
    if len(valid):
        total = _sum_exactly(num_found / ranks, matches.begin[valid])
        average_precision[valid] = total / num_positives[valid]

    inverse_negative_penalty = np.full(num_queries, np.nan)
    last_rank = ranks[matches.begin[valid + 1] - 1]
    inverse_negative_penalty[valid] = num_positives[valid] / last_rank

    first_rank: FloatArray = np.zeros(num_queries)
    first_rank[valid] = ranks[matches.begin[valid]]

    return QueryMeasures(
        average_precision,
        inverse_negative_penalty,
        first_rank if ties == "mean" else first_rank.astype(np.int64),
        num_positives,
    )
