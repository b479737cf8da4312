"""From counts of wrong items to ranks, average precision and inverse negative penalty."""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import fail
from clipreid_kit.metrics._engine.identity_matches import Labels
from clipreid_kit.metrics._engine.match_counts import Matches
from clipreid_kit.metrics.results.reid_result import ReidResult

Ties = Literal["pessimistic", "optimistic", "mean"]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def match_ranks(matches: Matches, ties: Ties) -> FloatArray | IntArray:
    r"""Rank of every match, from 1, ascending for each query.

    With ``"mean"`` it is the expected rank under a random order of equals: the j-th of r matches among t wrong items
    that are exactly as near has :math:`t j / (r + 1)` of them above it.
    """
    query = matches.query
    order = np.lexsort((matches.tied, matches.above, query))
    above, tied = matches.above[order], matches.tied[order]
    found = np.arange(1, len(query) + 1) - matches.begin[query]
    if ties == "optimistic":
        return found + above
    if ties == "pessimistic":
        return found + above + tied
    # two matches with wrong items beside them are equally near if and only if both counts agree
    key = np.stack([query, above, tied])
    starts = np.flatnonzero(np.append(True, (key[:, 1:] != key[:, :-1]).any(axis=0))[: len(query)])
    size = np.diff(np.append(starts, len(query)))
    group = np.repeat(np.arange(len(starts)), size)
    of_group = size[group]
    place = np.arange(1, len(query) + 1) - starts[group]
    ranks: FloatArray = found + above + tied * place / (of_group + 1)
    return ranks


def measure(
    matches: Matches, ties: Ties
) -> tuple[FloatArray, FloatArray, FloatArray | IntArray, IntArray]:
    """Average precision, inverse negative penalty, rank of the first match and number of matches, for each query."""
    num_queries = len(matches.begin) - 1
    ranks = match_ranks(matches, ties)
    count: IntArray = np.diff(matches.begin)
    precision, penalty = np.full(num_queries, np.nan), np.full(num_queries, np.nan)
    first_rank: FloatArray = np.zeros(num_queries)
    some = np.flatnonzero(count)
    share = ((np.arange(1, len(ranks) + 1) - matches.begin[matches.query]) / ranks).tolist()
    for i in some.tolist():  # fsum rounds once: no order of the sum changes it
        precision[i] = math.fsum(share[matches.begin[i] : matches.begin[i + 1]]) / count[i]
    penalty[some] = count[some] / ranks[matches.begin[some + 1] - 1]
    first_rank[some] = ranks[matches.begin[some]]
    return precision, penalty, first_rank if ties == "mean" else first_rank.astype(np.int64), count


def result_of(
    owner: str, found: Iterable[Matches], labels: Labels, ties: Ties, max_rank: int
) -> ReidResult:
    """Put the measures of all parts together; an error if no query has a match."""
    parts = [(matches, measure(matches, ties)) for matches in found]
    precision, penalty, first_rank, count = (
        np.concatenate(x) for x in zip(*(m for _, m in parts), strict=True)
    )
    if not count.any():
        raise _no_match(owner, labels, sum(matches.with_identity for matches, _ in parts))
    longest = min(max_rank, labels.num_gallery)
    return ReidResult(
        precision, penalty, first_rank, count, labels.num_gallery, longest, labels.query_ids
    )


def _no_match(owner: str, labels: Labels, with_identity: int) -> ValueError:
    expected = "at least one query with a match in the gallery"
    if with_identity == 0:
        identities = len(np.unique(labels.queries))
        shown = (
            f"{identities} query identities, none among the {labels.num_identities} of the gallery"
        )
        shown += f", of which {len(labels.ignored)} rows are junk" if len(labels.ignored) else ""
        remedy = "Compare how the ids of the two sides were made: they have to be numbered or named alike."
        return fail(owner, expected, shown, remedy)
    if not labels.rules:
        return fail(
            owner, expected, f"{len(labels.queries)} queries, each the only one of its identity"
        )
    rules = " and the ".join(dict.fromkeys(labels.rules))
    if labels.num_cameras is not None:
        rules = rules.replace(
            "camera rule", f"camera rule ({labels.num_cameras} different cameras in all)"
        )
    return fail(
        owner,
        expected,
        f"{with_identity} of {len(labels.queries)} queries with their identity in the gallery, every match of which is "
        f"left out by the {rules}",
        "If the cameras are unknown, or one number stands for all, leave query_cameras and gallery_cameras out.",
    )
