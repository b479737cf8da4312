"""Pairs of a query and a gallery row that is its match, or would be one but for a rule."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
MAX_PAIRS = 1 << 22  # pairs that are held at once


@dataclass(slots=True)
class MatchPairs:
    """Queries, and the gallery rows of their identity (or on their list).

    Attributes:
        begin: (Q + 1,): the rows of query i are ``rows[begin[i]:begin[i + 1]]``.
        rows: Gallery rows.
        valid: Whether the row counts as a match; one that does not is left out for this query.
    """

    begin: IntArray
    rows: IntArray
    valid: BoolArray

    @property
    def query(self) -> IntArray:
        """The query of every pair."""
        return np.repeat(np.arange(len(self.begin) - 1), np.diff(self.begin))

    def part(self, first: int, last: int) -> "MatchPairs":
        """Return a view of the pairs of the queries from ``first`` to before ``last``."""
        pairs = slice(*self.begin[[first, last]].tolist())
        begin = self.begin[first : last + 1] - self.begin[first]
        return MatchPairs(begin, self.rows[pairs], self.valid[pairs])

    def of_queries(self, chosen: IntArray) -> "MatchPairs":
        """Return the pairs of some queries, which are numbered from 0."""
        first, last = self.begin[chosen], self.begin[chosen + 1]
        spans = [slice(*span) for span in zip(first.tolist(), last.tolist(), strict=True)]
        return MatchPairs(
            np.concatenate([[0], np.cumsum(last - first)]),
            np.concatenate([self.rows[:0], *(self.rows[span] for span in spans)]),
            np.concatenate([self.valid[:0], *(self.valid[span] for span in spans)]),
        )

    def within(self, left: int, right: int) -> "MatchPairs":
        """Return the pairs with a part of the gallery, whose rows are numbered from 0."""
        inside = (self.rows >= left) & (self.rows < right)
        num_before = np.concatenate([[0], np.cumsum(inside)])
        return MatchPairs(num_before[self.begin], self.rows[inside] - left, self.valid[inside])


def split_queries(
    num_pairs: IntArray, max_queries: int, max_pairs: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield ranges of queries: at most ``max_queries``, and a bounded number of pairs each.

    Args:
        num_pairs: Number of pairs of every query.
        max_queries: Largest number of queries in a range.
        max_pairs: Largest number of pairs in a range of several queries; defaults to
            ``MAX_PAIRS``, and is never more.
    """
    most = MAX_PAIRS if max_pairs is None else min(max_pairs, MAX_PAIRS)
    num_before = np.concatenate([[0], np.cumsum(num_pairs)])
    start = 0
    while start < len(num_pairs):
        stop = int(num_before.searchsorted(num_before[start] + most, side="right")) - 1
        stop = min(max(stop, start + 1), start + max_queries, len(num_pairs))
        yield start, stop
        start = stop
