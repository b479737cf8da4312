"""The result of a retrieval evaluation: hit rate, recall, NDCG, mAP and related measures."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import check_choice, check_integer
from clipreid_kit.metrics._engine.id_columns import Ids
from clipreid_kit.metrics.results._output_formats import (
    Columns,
    json_text,
    measure_table,
    write_columns,
)
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval, bootstrap_interval
from clipreid_kit.metrics.results.reid_result import has_several_ids

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Measure = Literal[
    "hit_rate",
    "recall",
    "precision",
    "ndcg",
    "average_precision",
    "reciprocal_rank",
    "r_precision",
    "average_precision_at_r",
]
MeanMeasure = Literal[
    "hit_rate",
    "recall",
    "precision",
    "ndcg",
    "mean_ap",
    "mean_reciprocal_rank",
    "r_precision",
    "mean_ap_at_r",
]

_MEASURE_OF_MEAN: dict[str, Measure] = {
    "hit_rate": "hit_rate",
    "recall": "recall",
    "precision": "precision",
    "ndcg": "ndcg",
    "mean_ap": "average_precision",
    "mean_reciprocal_rank": "reciprocal_rank",
    "r_precision": "r_precision",
    "mean_ap_at_r": "average_precision_at_r",
}
_K_REQUIRED = ("hit_rate", "recall", "precision")
_K_ALLOWED = (*_K_REQUIRED, "ndcg")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RetrievalResult:
    r"""Measures of one set of queries against one gallery. All rates are fractions in [0, 1].

    Let a query have R relevant gallery rows at the ranks :math:`r_1 < \dots < r_R`, counted from 1.

    .. math::
        \text{recall@}k = \frac{|\{i: r_i \le k\}|}{R}, \quad
        \text{NDCG@}k = \frac{\sum_{r_i \le k} 1 / \log_2(r_i + 1)}
                             {\sum_{i \le \min(R, k)} 1 / \log_2(i + 1)}, \quad
        AP = \frac{1}{R} \sum_i \frac{i}{r_i}, \quad
        AP@R = \frac{1}{R} \sum_{r_i \le R} \frac{i}{r_i}

    Queries without a relevant gallery row are counted, but no mean includes them.

    Attributes:
        ranks: Ranks of the relevant gallery rows of all queries, one query after the other, each
            ascending. Integers, except for ``ties="mean"``.
        begin: Those of query i are ``ranks[begin[i]:begin[i + 1]]``.
        num_gallery: Number of gallery rows that each query ranks.
        query_ids: Id of each query, if known: confidence intervals resample ids.

    Example:
        >>> ranks, begin = np.array([1, 3, 2]), np.array([0, 2, 3])  # two queries
        >>> result = RetrievalResult(ranks, begin, num_gallery=4)
        >>> result.hit_rate(1), result.recall(1), result.mean_reciprocal_rank
        (0.5, 0.25, 0.75)
    """

    ranks: IntArray | FloatArray
    begin: IntArray
    num_gallery: int
    query_ids: npt.NDArray[Any] | None = None

    @property
    def num_queries(self) -> int:
        """Number of all queries."""
        return len(self.begin) - 1

    @property
    def num_relevant(self) -> IntArray:
        """Number of relevant gallery rows of each query (R)."""
        sizes: IntArray = np.diff(self.begin)
        return sizes

    @property
    def num_valid_queries(self) -> int:
        """Number of queries with a relevant gallery row: the means are over these."""
        return int((self.num_relevant > 0).sum())

    def hit_rate(self, k: int) -> float:
        """Return the share of queries with a relevant row among the first k (often Recall@k)."""
        return self._mean("hit_rate", k)

    def recall(self, k: int) -> float:
        """Return the share of a query's relevant rows among the first k, averaged over queries."""
        return self._mean("recall", k)

    def precision(self, k: int) -> float:
        """Return the number of relevant rows among the first k, divided by k.

        The divisor is k even if the gallery has fewer than k rows.
        """
        return self._mean("precision", k)

    def ndcg(self, k: int | None = None) -> float:
        """Return the normalised discounted cumulative gain of the first k, with gains of 0 and 1.

        ``None`` for the whole list.
        """
        return self._mean("ndcg", k)

    @property
    def mean_ap(self) -> float:
        """Mean average precision (mAP) over the whole list."""
        return self._mean("average_precision")

    @property
    def mean_reciprocal_rank(self) -> float:
        """Mean reciprocal rank of the first relevant row (MRR)."""
        return self._mean("reciprocal_rank")

    @property
    def r_precision(self) -> float:
        """Share of relevant rows among the first R, with each query's own R."""
        return self._mean("r_precision")

    @property
    def mean_ap_at_r(self) -> float:
        """MAP@R: average precision of the first R only."""
        return self._mean("average_precision_at_r")

    def of_each(self, measure: Measure, k: int | None = None) -> FloatArray:
        """Return one measure of each query, NaN if nothing is relevant.

        Use it for significance tests and to inspect single queries.

        Args:
            measure: Name of the measure.
            k: Number of first ranks that count: required for ``"hit_rate"``, ``"recall"`` and
                ``"precision"``; ``None`` for the whole list in ``"ndcg"``, and for all other
                measures.

        Raises:
            ValueError: If the name is unknown, or ``k`` is missing, superfluous or below 1.
        """
        owner = "RetrievalResult.of_each"
        check_choice(owner, "measure", measure, tuple(_MEASURE_OF_MEAN.values()))
        if k is None and measure in _K_REQUIRED:
            raise ValueError(f"{owner}: measure {measure!r} needs a k.")
        if k is not None and measure not in _K_ALLOWED:
            raise ValueError(f"{owner}: measure {measure!r} takes no k, got {k}.")
        if k is not None:
            check_integer(owner, "k", k, 1)

        last_rank = self.num_gallery if k is None else k
        gains = self._gains(measure, last_rank).tolist()
        begin = self.begin.tolist()
        # fsum rounds once, as for re-identification
        sums = [math.fsum(gains[start:stop]) for start, stop in itertools.pairwise(begin)]

        values = np.array(sums) / self._divisors(measure, last_rank)
        return np.where(self.num_relevant > 0, values, np.nan)

    def _gains(self, measure: Measure, last_rank: int) -> FloatArray:
        """Return what each relevant row adds to the measure of its query.

        Args:
            measure: Name of the measure.
            last_rank: Last rank that counts, for the measures that have a k.
        """
        ranks = self.ranks
        query = np.repeat(np.arange(self.num_queries), self.num_relevant)
        num_found = np.arange(len(ranks)) - self.begin[query] + 1  # relevant rows up to this one
        is_first = num_found == 1
        is_within_k = (ranks <= last_rank).astype(np.float64)
        is_within_r = (ranks <= self.num_relevant[query]).astype(np.float64)

        gains: FloatArray
        match measure:
            case "hit_rate":
                gains = is_within_k * is_first
            case "recall" | "precision":
                gains = is_within_k
            case "ndcg":
                gains = is_within_k / np.log2(ranks + 1.0)
            case "reciprocal_rank":
                gains = is_first / ranks
            case "r_precision":
                gains = is_within_r
            case "average_precision_at_r":
                gains = is_within_r * (num_found / ranks)
            case _:
                gains = num_found / ranks
        return gains

    def _divisors(self, measure: Measure, last_rank: int) -> FloatArray:
        """Return the number that the sum of each query's gains is divided by."""
        num_relevant = np.maximum(self.num_relevant, 1)

        divisors: FloatArray = num_relevant.astype(np.float64)
        if measure in ("hit_rate", "reciprocal_rank"):
            divisors = np.ones_like(divisors)
        elif measure == "precision":
            divisors = np.full_like(divisors, last_rank)
        elif measure == "ndcg":
            # The gains of the best ranking, which has all relevant rows first.
            discounts = 1 / np.log2(np.arange(int(num_relevant.max(initial=1))) + 2.0)
            divisors = np.cumsum(discounts)[np.minimum(num_relevant, last_rank) - 1]
        return divisors

    def interval(
        self,
        measure: MeanMeasure,
        k: int | None = None,
        *,
        groups: Ids | None = None,
        confidence: float = 0.95,
        num_samples: int = 2000,
        seed: int = 0,
    ) -> ConfidenceInterval:
        """Compute the confidence interval of a mean by :func:`bootstrap_interval` over query ids.

        Args:
            measure: Name of the mean, as the attribute or method is called: ``"mean_ap"``,
                ``"recall"``, ...
            k: For the measures that have one.
            groups: For each query, the group that is drawn together; defaults to :attr:`query_ids`.
            confidence: Share of samples inside the interval, above 0 and below 1.
            num_samples: Number of samples; each draws as many ids as there are.
            seed: Seed of a separate generator.

        Raises:
            ValueError: If an option is out of its range, or no ids are known.
        """
        owner = "RetrievalResult.interval"
        check_choice(owner, "measure", measure, tuple(_MEASURE_OF_MEAN))
        chosen = self.query_ids if groups is None else groups
        if chosen is None:
            raise ValueError(
                f"{owner}: this result has no query_ids; pass groups "
                "(range(num_queries) for independent queries)."
            )

        values = self.of_each(_MEASURE_OF_MEAN[measure], k)
        return bootstrap_interval(
            values, chosen, confidence=confidence, num_samples=num_samples, seed=seed
        )

    def per_query(self) -> Columns:
        """Return columns, one row for each query; ``first_rank`` is 0 if nothing is relevant."""
        has_relevant = self.num_relevant > 0
        first_rank = np.zeros(self.num_queries, dtype=self.ranks.dtype)
        first_rank[has_relevant] = self.ranks[self.begin[:-1][has_relevant]]

        columns: Columns = {"query": np.arange(self.num_queries)}
        if self.query_ids is not None:
            columns["query_id"] = self.query_ids
        columns["average_precision"] = self.of_each("average_precision")
        columns["r_precision"] = self.of_each("r_precision")
        columns["average_precision_at_r"] = self.of_each("average_precision_at_r")
        columns["ndcg"] = self.of_each("ndcg")
        columns["first_rank"] = first_rank
        columns["num_relevant"] = self.num_relevant
        return columns

    def write_csv(self, path: str | Path) -> None:
        """Write :meth:`per_query` to a CSV file; NaN is an empty cell."""
        write_columns(path, self.per_query())

    def to_dict(self, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float | int]:
        """Return plain numbers for a JSON file; rates as fractions."""
        values: dict[str, float | int] = {}
        values |= {f"hit_rate_{k}": self.hit_rate(k) for k in ks}
        values |= {f"recall_{k}": self.recall(k) for k in ks}
        values |= {f"ndcg_{k}": self.ndcg(k) for k in ks}
        return values | {
            "mean_ap": self.mean_ap,
            "mean_reciprocal_rank": self.mean_reciprocal_rank,
            "r_precision": self.r_precision,
            "mean_ap_at_r": self.mean_ap_at_r,
            "num_queries": self.num_queries,
            "num_valid_queries": self.num_valid_queries,
            "num_gallery": self.num_gallery,
        }

    def to_json(self, ks: Sequence[int] = (1, 5, 10)) -> str:
        """Return JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(ks))

    def table(self, ks: Sequence[int] = (1, 5, 10), *, confidence: float = 0.95) -> str:
        """Return a table in percent, with intervals if at least two ids are known."""
        rows: list[tuple[str, MeanMeasure, int | None]] = []
        rows += [(f"hit rate @{k}", "hit_rate", k) for k in ks]
        rows += [(f"recall @{k}", "recall", k) for k in ks]
        rows += [(f"NDCG @{k}", "ndcg", k) for k in ks]
        rows.append(("mAP", "mean_ap", None))
        rows.append(("MRR", "mean_reciprocal_rank", None))
        rows.append(("R-precision", "r_precision", None))
        rows.append(("MAP@R", "mean_ap_at_r", None))

        rates = {name: self._mean(_MEASURE_OF_MEAN[measure], k) for name, measure, k in rows}
        intervals = []
        if has_several_ids(self.query_ids, self.num_relevant):
            for _, measure, k in rows:
                intervals.append(self.interval(measure, k, confidence=confidence))
        return measure_table(rates, intervals, confidence, self._note())

    def __str__(self) -> str:
        """Return a small table for people, in percent."""
        if self.num_valid_queries == 0:
            return f"no query with a relevant row ({self._note()})"

        ks = (1, 5, 10)
        cutoffs = {"hit rate": self.hit_rate, "recall": self.recall, "NDCG": self.ndcg}
        lines = [" " * 10 + "".join(f"{f'@{k}':>8}" for k in ks)]
        for name, measure in cutoffs.items():
            lines.append(f"{name:10}" + "".join(f"{100 * measure(k):8.2f}" for k in ks))

        rates = {
            "mAP": self.mean_ap,
            "MRR": self.mean_reciprocal_rank,
            "R-precision": self.r_precision,
            "MAP@R": self.mean_ap_at_r,
        }
        lines.append("  ".join(f"{name} {100 * rate:.2f}" for name, rate in rates.items()))
        return "\n".join([*lines, self._note()])

    __repr__ = __str__

    def _note(self) -> str:
        note = f"{self.num_valid_queries} queries, {self.num_gallery} gallery"
        num_left_out = self.num_queries - self.num_valid_queries
        if num_left_out:
            note += f", {num_left_out} queries without a relevant row left out"
        return note

    def _mean(self, measure: Measure, k: int | None = None) -> float:
        values = self.of_each(measure, k)
        # fsum rounds once: the mean does not depend on the order of the queries
        total = math.fsum(values[self.num_relevant > 0].tolist())
        return total / self.num_valid_queries
