"""The matches of some queries, and the number of non-matches ranked above and tied with each."""

import copy
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from clipreid_kit.metrics._engine.match_pairs import MatchPairs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class MatchCounts:
    """Matches of Q queries, those of query i at ``begin[i]:begin[i + 1]``.

    Attributes:
        begin: (Q + 1,).
        rows: Gallery rows; -1 for a match in another part of the gallery.
        similarities: Exact similarities; empty while they are unknown.
        num_with_identity: Queries whose identity is in the gallery, valid or not.
        above: For each match, the number of non-matches that are nearer to the query.
        tied: For each match, the number of non-matches that are exactly as near.
    """

    begin: IntArray
    rows: IntArray
    similarities: FloatArray
    num_with_identity: int
    above: IntArray = field(init=False)
    tied: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.above = np.zeros(len(self.rows), dtype=np.int64)
        self.tied = np.zeros(len(self.rows), dtype=np.int64)

    @classmethod
    def from_pairs(cls, pairs: MatchPairs, similarities: FloatArray | None = None) -> "MatchCounts":
        """Take the valid pairs as matches; ``similarities`` are those of all pairs, if known."""
        valid = np.flatnonzero(pairs.valid)
        known = np.empty(0) if similarities is None else similarities[valid]
        num_with_identity = int((np.diff(pairs.begin) > 0).sum())
        return cls(valid.searchsorted(pairs.begin), pairs.rows[valid], known, num_with_identity)

    def part(self, first: int, last: int) -> "MatchCounts":
        """Return a view of the matches of the queries from ``first`` to before ``last``."""
        matches = slice(*self.begin[[first, last]].tolist())
        part = copy.copy(self)
        part.begin = self.begin[first : last + 1] - self.begin[first]
        part.rows = self.rows[matches]
        part.similarities = self.similarities[matches]
        part.above = self.above[matches]
        part.tied = self.tied[matches]
        return part

    def with_matches(self) -> tuple[IntArray, "MatchCounts"]:
        """Return the queries that have matches, and a view of the matches for these alone."""
        chosen = np.flatnonzero(np.diff(self.begin))
        part = copy.copy(self)
        part.begin = np.append(self.begin[chosen], len(self.rows))
        return chosen, part

    @property
    def query(self) -> IntArray:
        """The query of every match."""
        return np.repeat(np.arange(len(self.begin) - 1), np.diff(self.begin))

    @property
    def has_similarities(self) -> bool:
        """Whether the exact similarities are known."""
        return len(self.similarities) > 0

    def add(
        self, match: IntArray | slice, similarities: FloatArray, nonmatch_similarities: FloatArray
    ) -> None:
        """Count non-matches of one query against some of its matches.

        Args:
            match: Numbers of the matches.
            similarities: Similarities of these matches.
            nonmatch_similarities: Similarities of the non-matches.
        """
        ascending = np.sort(nonmatch_similarities)
        right = ascending.searchsorted(similarities, side="right")
        self.above[match] += len(ascending) - right
        self.tied[match] += right - ascending.searchsorted(similarities, side="left")
