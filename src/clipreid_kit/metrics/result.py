"""What an evaluation returns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import fail

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ReidResult:
    """Metrics of one query set against one gallery. All rates are fractions in [0, 1].

    Queries without a valid match (``num_positives == 0``) have no rank: they are counted, and take no part in any
    mean. Arrays have one entry for each query, in the order given.

    Attributes:
        average_precision: AP of each query, NaN where there is no match.
        inverse_negative_penalty: INP of each query: matches / rank of the last match; NaN where there is none.
        first_rank: Rank of the first match, from 1; 0 where there is none. Whole numbers, except for ``ties="mean"``.
        num_positives: Valid matches of each query.
        num_gallery: Size of the gallery, without junk.
        max_rank: Length of :attr:`cmc`.

    Example:
        >>> import numpy as np
        >>> result = ReidResult(np.array([1.0, 0.5]), np.array([1.0, 0.5]), np.array([1, 2]), np.array([1, 1]), 4, 4)
        >>> result.rank(1), result.rank(2), result.mean_ap
        (0.5, 1.0, 0.75)
    """

    average_precision: FloatArray
    inverse_negative_penalty: FloatArray
    first_rank: IntArray | FloatArray
    num_positives: IntArray
    num_gallery: int
    max_rank: int

    @property
    def num_queries(self) -> int:
        """All queries."""
        return len(self.num_positives)

    @property
    def num_valid_queries(self) -> int:
        """Queries with at least one valid match: those that the means are taken over."""
        return int((self.num_positives > 0).sum())

    @property
    def mean_ap(self) -> float:
        """Mean average precision (mAP) over the whole ranking, never cut at a rank."""
        return self._mean(self.average_precision)

    @property
    def mean_inp(self) -> float:
        """Mean inverse negative penalty (mINP): how far down the hardest match lies."""
        return self._mean(self.inverse_negative_penalty)

    def rank(self, k: int) -> float:
        """Rank-k: the share of queries with a match among the first k. A k beyond the gallery gives 1.

        Raises:
            ValueError: If ``k`` is below 1.
        """
        if k < 1:
            raise fail("ReidResult.rank", "k >= 1", k)
        hit = (self.first_rank > 0) & (self.first_rank <= k)
        return int(hit.sum()) / self.num_valid_queries

    @property
    def cmc(self) -> FloatArray:
        """Cumulative matching characteristic: Rank-1 to Rank-``max_rank``, never falling."""
        ranks = np.ceil(self.first_rank[self.first_rank > 0]).astype(np.int64)
        hits = np.bincount(ranks, minlength=self.max_rank + 1)
        curve: FloatArray = np.cumsum(hits[1 : self.max_rank + 1]) / self.num_valid_queries
        return curve

    def _mean(self, values: FloatArray) -> float:
        # fsum rounds once: the mean does not depend on the order of the queries
        return math.fsum(values[self.num_positives > 0].tolist()) / self.num_valid_queries

    def to_dict(self, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, float | int]:
        """Plain numbers for a JSON file; rates as fractions."""
        return {
            **{f"rank_{k}": self.rank(k) for k in ranks},
            "mean_ap": self.mean_ap,
            "mean_inp": self.mean_inp,
            "num_queries": self.num_queries,
            "num_valid_queries": self.num_valid_queries,
            "num_gallery": self.num_gallery,
        }

    def __str__(self) -> str:
        """One line for people, in percent."""
        rates = {
            **{f"Rank-{k}": self.rank(k) for k in (1, 5, 10)},
            "mAP": self.mean_ap,
            "mINP": self.mean_inp,
        }
        line = "  ".join(f"{name} {100 * rate:.2f}" for name, rate in rates.items())
        left_out = self.num_queries - self.num_valid_queries
        note = f", {left_out} queries without a match left out" if left_out else ""
        return f"{line}  ({self.num_valid_queries} queries, {self.num_gallery} gallery{note})"
