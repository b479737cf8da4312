"""What an evaluation returns."""

import json
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
ReidMeasure = Literal["mean_ap", "mean_inp", "rank"]
_SIZES = {"num_gallery", "max_rank"}
_PER_QUERY = ("average_precision", "inverse_negative_penalty", "first_rank", "num_positives")


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
        query_ids: Identity of each query, if known: intervals are taken over identities.

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
    query_ids: npt.NDArray[Any] | None = None

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
            ValueError: If ``k`` is no whole number or below 1.
        """
        check_integer("ReidResult.rank", "k", k, 1)
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

    def interval(
        self,
        measure: ReidMeasure,
        k: int | None = None,
        *,
        groups: Ids | None = None,
        confidence: float = 0.95,
        num_samples: int = 2000,
        seed: int = 0,
    ) -> ConfidenceInterval:
        """How far a mean may be from that of other identities: :func:`bootstrap_interval` over the identities.

        Args:
            measure: Name of the mean: ``"mean_ap"``, ``"mean_inp"`` or ``"rank"``.
            k: The k of Rank-k; ``None`` for the others.
            groups: What is drawn together, for each query; ``None`` for :attr:`query_ids`.
            confidence: Share of samples inside, above 0 and below 1.
            num_samples: Samples, each of as many identities as there are.
            seed: Of a generator of its own.

        Raises:
            ValueError: If an option is out of its range, ``k`` is missing or superfluous, no identities are known, or
                only one identity has a match.

        Example:
            >>> ap, ids = np.array([1.0, 1.0, 0.0, 0.0]), np.array([7, 7, 8, 8])
            >>> result = ReidResult(ap, ap, np.array([1, 1, 9, 9]), np.ones(4, dtype=np.int64), 9, 9, ids)
            >>> result.interval("mean_ap")  # two identities: both the same in half of the samples
            ConfidenceInterval(mean=0.5, low=0.0, high=1.0)
        """
        owner = "ReidResult.interval"
        check_choice(owner, "measure", measure, ("mean_ap", "mean_inp", "rank"))
        if (k is None) == (measure == "rank"):
            raise fail(owner, f"{'a' if k is None else 'no'} k with {measure!r}", k)
        if k is not None:
            check_integer(owner, "k", k, 1)
        chosen = self.query_ids if groups is None else groups
        if chosen is None:
            raise fail(
                owner,
                "groups, as the result holds no query_ids",
                "none",
                "Give the identity of each query.",
            )
        if measure == "rank":
            values = np.where(
                self.num_positives > 0, (self.first_rank <= (k or 1)).astype(np.float64), np.nan
            )
        else:
            values = (
                self.average_precision if measure == "mean_ap" else self.inverse_negative_penalty
            )
        return bootstrap_interval(
            values, chosen, confidence=confidence, num_samples=num_samples, seed=seed
        )

    def per_query(self) -> Columns:
        """Columns for a closer look, one row for each query; ``pandas.DataFrame`` takes them as they are."""
        ids = {} if self.query_ids is None else {"query_id": self.query_ids}
        return {
            "query": np.arange(self.num_queries),
            **ids,
            **{name: getattr(self, name) for name in _PER_QUERY},
        }

    def write_csv(self, path: str | Path) -> None:
        """Write :meth:`per_query` to a CSV file; NaN is an empty cell."""
        write_columns(path, self.per_query())

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

    def to_json(self, ranks: Sequence[int] = (1, 5, 10), *, per_query: bool = False) -> str:
        """JSON text of :meth:`to_dict`; with ``per_query`` also of all columns, from which :meth:`from_json` reads."""
        values: dict[str, Any] = dict(self.to_dict(ranks))
        if per_query:
            values |= {"max_rank": self.max_rank, "per_query": self.per_query()}
        return json_text(values)

    @classmethod
    def from_json(cls, text: str) -> "ReidResult":
        """The result that :meth:`to_json` wrote with ``per_query=True``, to the last bit.

        Raises:
            ValueError: If the text is no JSON or lacks the columns.
        """
        values = json.loads(text)
        table = values.get("per_query") if isinstance(values, dict) else None
        remedy = "Write it with to_json(per_query=True)."
        if (
            not isinstance(table, dict)
            or not {*_PER_QUERY} <= table.keys()
            or not values.keys() >= _SIZES
        ):
            raise fail(
                "ReidResult.from_json", "JSON with the columns of each query", "none", remedy
            )
        if any(
            not isinstance(column, list) or len(column) != len(table[_PER_QUERY[0]])
            for column in table.values()
        ):
            raise fail("ReidResult.from_json", "columns of one length", "others", remedy)
        precision, penalty = (np.asarray(table[name], dtype=np.float64) for name in _PER_QUERY[:2])
        first_rank = np.asarray(table["first_rank"])
        positives = np.asarray(table["num_positives"], dtype=np.int64)
        ids = np.asarray(table["query_id"]) if "query_id" in table else None
        return cls(
            precision,
            penalty,
            first_rank,
            positives,
            values["num_gallery"],
            values["max_rank"],
            ids,
        )

    def table(self, ranks: Sequence[int] = (1, 5, 10), *, confidence: float = 0.95) -> str:
        """A table for people, in percent, with intervals where two identities or more are known."""
        rates = {f"Rank-{k}": self.rank(k) for k in ranks} | {
            "mAP": self.mean_ap,
            "mINP": self.mean_inp,
        }
        intervals = []
        if (
            self.query_ids is not None
            and len(np.unique(self.query_ids[self.num_positives > 0])) > 1
        ):
            intervals = [self.interval("rank", k, confidence=confidence) for k in ranks]
            intervals += [self.interval("mean_ap", confidence=confidence)]
            intervals += [self.interval("mean_inp", confidence=confidence)]
        return measure_table(rates, intervals, confidence, self._note())

    def __str__(self) -> str:
        """One line for people, in percent."""
        rates = {
            **{f"Rank-{k}": self.rank(k) for k in (1, 5, 10)},
            "mAP": self.mean_ap,
            "mINP": self.mean_inp,
        }
        line = "  ".join(f"{name} {100 * rate:.2f}" for name, rate in rates.items())
        return f"{line}  ({self._note()})"

    def _note(self) -> str:
        left_out = self.num_queries - self.num_valid_queries
        note = f", {left_out} queries without a match left out" if left_out else ""
        return f"{self.num_valid_queries} queries, {self.num_gallery} gallery{note}"
