"""The matches of some queries, and the wrong items counted above and beside each."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from clipreid_kit.metrics._engine.identity_matches import Pairs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class Matches:
    """Matches of Q queries, those of query i at ``begin[i]:begin[i + 1]``.

    Attributes:
        begin: (Q + 1,).
        rows: Gallery rows; -1 for a match in another part of the gallery.
        scores: Exact similarities; empty where they are not known.
        with_identity: Queries with their identity in the gallery, valid or not.
        above: Wrong items that are nearer to the query.
        tied: Wrong items that are exactly as near.
    """

    begin: IntArray
    rows: IntArray
    scores: FloatArray
    with_identity: int
    above: IntArray = field(init=False)
    tied: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.above, self.tied = np.zeros((2, len(self.rows)), dtype=np.int64)

    @classmethod
    def of(cls, pairs: Pairs, scores: FloatArray | None = None) -> "Matches":
        """The valid ones among pairs of one identity, with the scores of all pairs where they are known."""
        begin = np.concatenate([[0], np.cumsum(pairs.valid)])[pairs.begin]
        known = np.empty(0) if scores is None else scores[pairs.valid]
        return cls(begin, pairs.rows[pairs.valid], known, int((np.diff(pairs.begin) > 0).sum()))

    @property
    def query(self) -> IntArray:
        """The query of every match."""
        return np.repeat(np.arange(len(self.begin) - 1), np.diff(self.begin))

    @property
    def known(self) -> bool:
        """Whether the exact similarities are known."""
        return len(self.scores) > 0

    def add(self, match: IntArray | slice, scores: FloatArray, wrong: FloatArray) -> None:
        """Count wrong items with these scores for some matches of one query, which have the scores given."""
        ascending = np.sort(wrong)
        right = ascending.searchsorted(scores, side="right")
        self.above[match] += len(ascending) - right
        self.tied[match] += right - ascending.searchsorted(scores, side="left")
