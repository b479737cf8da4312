"""What an evaluation of retrieval returns."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit.metrics._engine.identity_matches import Ids
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval, bootstrap_interval
from clipreid_kit.metrics.results.tables import Columns, json_text, measure_table, write_columns

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
_OF_MEAN: dict[str, Measure] = {
    "hit_rate": "hit_rate",
    "recall": "recall",
    "precision": "precision",
    "ndcg": "ndcg",
    "mean_ap": "average_precision",
    "mean_reciprocal_rank": "reciprocal_rank",
    "r_precision": "r_precision",
    "mean_ap_at_r": "average_precision_at_r",
}
_WITH_K = ("hit_rate", "recall", "precision", "ndcg")
_MEASURES = (
    *_WITH_K,
    "average_precision",
    "reciprocal_rank",
    "r_precision",
    "average_precision_at_r",
)


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalResult:
    r"""Measures of one set of queries against one set of candidates. All rates are fractions in [0, 1].

    Let a query have R relevant candidates at the ranks :math:`r_1 < \dots < r_R`, counted from 1.

    .. math::
        \text{recall@}k = \frac{|\{i: r_i \le k\}|}{R}, \quad
        \text{NDCG@}k = \frac{\sum_{r_i \le k} 1 / \log_2(r_i + 1)}{\sum_{i \le \min(R, k)} 1 / \log_2(i + 1)}, \quad
        AP = \frac{1}{R} \sum_i \frac{i}{r_i}, \quad
        AP@R = \frac{1}{R} \sum_{r_i \le R} \frac{i}{r_i}

    Queries without a relevant candidate are counted, and take no part in any mean.

    Attributes:
        ranks: Ranks of the relevant candidates of all queries, one query after the other, each ascending. Whole
            numbers, except for ``ties="mean"``.
        begin: Those of query i are ``ranks[begin[i]:begin[i + 1]]``.
        num_candidates: Candidates that each query ranks.
        query_ids: Id of each query, if known: intervals are taken over ids.

    Example:
        >>> result = RetrievalResult(np.array([1, 3, 2]), np.array([0, 2, 3]), num_candidates=4)  # two queries
        >>> result.hit_rate(1), result.recall(1), result.mean_reciprocal_rank
        (0.5, 0.25, 0.75)
    """

    ranks: IntArray | FloatArray
    begin: IntArray
    num_candidates: int
    query_ids: npt.NDArray[Any] | None = None

    @property
    def num_queries(self) -> int:
        """All queries."""
        return len(self.begin) - 1

    @property
    def num_relevant(self) -> IntArray:
        """Relevant candidates of each query (R)."""
        sizes: IntArray = np.diff(self.begin)
        return sizes

    @property
    def num_valid_queries(self) -> int:
        """Queries with a relevant candidate: those that the means are taken over."""
        return int((self.num_relevant > 0).sum())

    def hit_rate(self, k: int) -> float:
        """Share of queries with at least one relevant candidate among the first k; often called Recall@k."""
        return self._mean("hit_rate", k)

    def recall(self, k: int) -> float:
        """Share of a query's relevant candidates that are among the first k, averaged over queries."""
        return self._mean("recall", k)

    def precision(self, k: int) -> float:
        """Relevant candidates among the first k, divided by k (also where there are fewer than k candidates)."""
        return self._mean("precision", k)

    def ndcg(self, k: int | None = None) -> float:
        """Normalised discounted cumulative gain of the first k (``None``: of the whole list), gains of 0 and 1."""
        return self._mean("ndcg", k)

    @property
    def mean_ap(self) -> float:
        """Mean average precision (mAP) over the whole list."""
        return self._mean("average_precision")

    @property
    def mean_reciprocal_rank(self) -> float:
        """Mean reciprocal rank of the first relevant candidate (MRR)."""
        return self._mean("reciprocal_rank")

    @property
    def r_precision(self) -> float:
        """Share of relevant ones among the first R, with each query's own R."""
        return self._mean("r_precision")

    @property
    def mean_ap_at_r(self) -> float:
        """MAP@R: average precision of the first R only."""
        return self._mean("average_precision_at_r")

    def of_each(self, measure: Measure, k: int | None = None) -> FloatArray:
        """One measure of each query, NaN where nothing is relevant; for tests of significance and for looking closer.

        Args:
            measure: Name of the measure.
            k: First ranks that count: required for ``"hit_rate"``, ``"recall"`` and ``"precision"``, ``None`` for the
                whole list in ``"ndcg"``, without meaning for the others.

        Raises:
            ValueError: If the name is unknown, or ``k`` is missing, superfluous or below 1.
        """
        owner = "RetrievalResult.of_each"
        check_choice(owner, "measure", measure, _MEASURES)
        if k is not None:
            check_integer(owner, "k", k, 1)
        if (k is None and measure in _WITH_K[:3]) or (k is not None and measure not in _WITH_K):
            raise fail(owner, f"{'a' if k is None else 'no'} k with {measure!r}", k)
        size, ranks = self.num_relevant, self.ranks
        query = np.repeat(np.arange(self.num_queries), size)
        place = (
            np.arange(len(ranks)) - self.begin[query] + 1
        )  # 1 for the first relevant one of a query
        last = self.num_candidates if k is None else k
        divisor = np.maximum(size, 1).astype(np.float64)
        if measure in ("hit_rate", "recall", "precision"):
            counted = (ranks <= last).astype(np.float64)
            if measure == "hit_rate":
                counted, divisor = counted * (place == 1), np.ones_like(divisor)
            elif measure == "precision":
                divisor = np.full_like(divisor, last)
        elif measure == "ndcg":
            counted = (ranks <= last).astype(np.float64) / np.log2(ranks + 1.0)
            ideal = np.cumsum(1 / np.log2(np.arange(int(divisor.max(initial=1))) + 2.0))
            divisor = ideal[np.minimum(np.maximum(size, 1), last) - 1]
        elif measure == "reciprocal_rank":
            counted, divisor = (place == 1) / ranks, np.ones_like(divisor)
        elif measure == "r_precision":
            counted = (ranks <= size[query]).astype(np.float64)
        elif measure == "average_precision_at_r":
            counted = (ranks <= size[query]).astype(np.float64) * (place / ranks)
        else:
            counted = place / ranks
        terms = counted.tolist()  # fsum rounds once, as for re-identification
        sums = [math.fsum(terms[i:j]) for i, j in itertools.pairwise(self.begin.tolist())]
        values = np.array(sums) / divisor
        return np.where(size > 0, values, np.nan)

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
        """How far a mean may be from that of other ids: :func:`bootstrap_interval` over the ids of the queries.

        Args:
            measure: Name of the mean, as the attribute or method is called: ``"mean_ap"``, ``"recall"``...
            k: For the measures that have one.
            groups: What is drawn together, for each query; ``None`` for :attr:`query_ids`.
            confidence: Share of samples inside, above 0 and below 1.
            num_samples: Samples, each of as many ids as there are.
            seed: Of a generator of its own.

        Raises:
            ValueError: If an option is out of its range, or no ids are known.
        """
        owner = "RetrievalResult.interval"
        check_choice(owner, "measure", measure, tuple(_OF_MEAN))
        chosen = self.query_ids if groups is None else groups
        if chosen is None:
            remedy = "Queries that have nothing in common are groups of one: range(num_queries)."
            raise fail(owner, "groups, as the result holds no query_ids", "none", remedy)
        values = self.of_each(_OF_MEAN[measure], k)
        return bootstrap_interval(
            values, chosen, confidence=confidence, num_samples=num_samples, seed=seed
        )

    def per_query(self) -> Columns:
        """Columns for a closer look, one row for each query; ``first_rank`` is 0 where nothing is relevant."""
        ids = {} if self.query_ids is None else {"query_id": self.query_ids}
        some = self.num_relevant > 0
        first_rank = np.zeros(self.num_queries, dtype=self.ranks.dtype)
        first_rank[some] = self.ranks[self.begin[:-1][some]]
        whole: tuple[Measure, ...] = (
            "average_precision",
            "r_precision",
            "average_precision_at_r",
            "ndcg",
        )
        measures: Columns = {name: self.of_each(name) for name in whole}
        columns = {"first_rank": first_rank, "num_relevant": self.num_relevant}
        return {"query": np.arange(self.num_queries), **ids, **measures, **columns}

    def write_csv(self, path: str | Path) -> None:
        """Write :meth:`per_query` to a CSV file; NaN is an empty cell."""
        write_columns(path, self.per_query())

    def to_dict(self, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float | int]:
        """Plain numbers for a JSON file; rates as fractions."""
        measures = {"hit_rate": self.hit_rate, "recall": self.recall, "ndcg": self.ndcg}
        return {
            **{f"{name}_{k}": measure(k) for name, measure in measures.items() for k in ks},
            "mean_ap": self.mean_ap,
            "mean_reciprocal_rank": self.mean_reciprocal_rank,
            "r_precision": self.r_precision,
            "mean_ap_at_r": self.mean_ap_at_r,
            "num_queries": self.num_queries,
            "num_valid_queries": self.num_valid_queries,
            "num_candidates": self.num_candidates,
        }

    def to_json(self, ks: Sequence[int] = (1, 5, 10)) -> str:
        """JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(ks))

    def table(self, ks: Sequence[int] = (1, 5, 10), *, confidence: float = 0.95) -> str:
        """A table for people, in percent, with intervals where two ids or more are known."""
        wanted: list[tuple[str, MeanMeasure, int | None]] = [
            (f"hit rate @{k}", "hit_rate", k) for k in ks
        ]
        wanted += [(f"recall @{k}", "recall", k) for k in ks]
        wanted += [(f"NDCG @{k}", "ndcg", k) for k in ks]
        wanted += [("mAP", "mean_ap", None), ("MRR", "mean_reciprocal_rank", None)]
        wanted += [("R-precision", "r_precision", None), ("MAP@R", "mean_ap_at_r", None)]
        rates = {name: self._mean(_OF_MEAN[measure], k) for name, measure, k in wanted}
        intervals = []
        if self.query_ids is not None and len(np.unique(self.query_ids[self.num_relevant > 0])) > 1:
            intervals = [
                self.interval(measure, k, confidence=confidence) for _, measure, k in wanted
            ]
        return measure_table(rates, intervals, confidence, self._note())

    def __str__(self) -> str:
        """A small table for people, in percent."""
        ks = (1, 5, 10)
        lines = ["          " + "".join(f"{f'@{k}':>8}" for k in ks)]
        for name, measure in (
            ("hit rate", self.hit_rate),
            ("recall", self.recall),
            ("NDCG", self.ndcg),
        ):
            lines.append(f"{name:10}" + "".join(f"{100 * measure(k):8.2f}" for k in ks))
        rates = {
            "mAP": self.mean_ap,
            "MRR": self.mean_reciprocal_rank,
            "R-precision": self.r_precision,
            "MAP@R": self.mean_ap_at_r,
        }
        lines.append("  ".join(f"{name} {100 * rate:.2f}" for name, rate in rates.items()))
        return "\n".join([*lines, self._note()])

    def _note(self) -> str:
        left_out = self.num_queries - self.num_valid_queries
        note = f", {left_out} queries without a relevant one left out" if left_out else ""
        return f"{self.num_valid_queries} queries, {self.num_candidates} candidates{note}"

    def _mean(self, measure: Measure, k: int | None = None) -> float:
        values = self.of_each(measure, k)
        # fsum rounds once: the mean does not depend on the order of the queries
        return math.fsum(values[self.num_relevant > 0].tolist()) / self.num_valid_queries
