"""From counts of non-matches to ranks, average precision and inverse negative penalty."""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from clipreid_kit.metrics._engine.match_counts import MatchCounts

Ties = Literal["pessimistic", "optimistic", "mean"]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


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
    query = matches.query
    order = np.lexsort((matches.tied, matches.above, query))
    above, tied = matches.above[order], matches.tied[order]
    num_found = np.arange(1, len(query) + 1) - matches.begin[query]
    if ties == "optimistic":
        return num_found + above
    if ties == "pessimistic":
        return num_found + above + tied

    # matches that are tied with non-matches are equally near if and only if both counts agree
    key = np.stack([query, above, tied])
    is_new = np.append(True, (key[:, 1:] != key[:, :-1]).any(axis=0))
    starts = np.flatnonzero(is_new[: len(query)])
    group_size = np.diff(np.append(starts, len(query)))
    group = np.repeat(np.arange(len(starts)), group_size)
    position = np.arange(1, len(query) + 1) - starts[group]
    ranks: FloatArray = num_found + above + tied * position / (group_size[group] + 1)
    return ranks


def measure_queries(matches: MatchCounts, ties: Ties) -> QueryMeasures:
    """Compute the measures of each query from the ranks of its matches."""
    num_queries = len(matches.begin) - 1
    num_positives: IntArray = np.diff(matches.begin)
    valid = np.flatnonzero(num_positives)
    ranks = match_ranks(matches, ties)

    average_precision = np.full(num_queries, np.nan)
    num_found = np.arange(1, len(ranks) + 1) - matches.begin[matches.query]
    precisions = (num_found / ranks).tolist()
    for i in valid.tolist():
        # fsum rounds once: the sum does not depend on the order
        total = math.fsum(precisions[matches.begin[i] : matches.begin[i + 1]])
        average_precision[i] = total / num_positives[i]

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
