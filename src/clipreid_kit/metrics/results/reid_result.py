"""The result of a re-identification evaluation: Rank-k, mAP and mINP."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import check_choice, check_integer, fail, shown
from clipreid_kit._read_files import parse_json
from clipreid_kit.metrics._engine.id_columns import Ids
from clipreid_kit.metrics.results._output_formats import (
    Columns,
    json_text,
    measure_table,
    write_columns,
)
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval, bootstrap_interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ReidMeasure = Literal["mean_ap", "mean_inp", "rank"]

_SIZES = {"num_gallery", "max_rank"}
_LARGEST = 2**53  # up to which float64 holds every whole number
_PER_QUERY = ("average_precision", "inverse_negative_penalty", "first_rank", "num_positives")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ReidResult:
    """Metrics of one query set against one gallery. All rates are fractions in [0, 1].

    Queries without a valid match (``num_positives == 0``) have no rank: they are counted, but no
    mean includes them. Arrays have one entry for each query, in the given order.

    Attributes:
        average_precision: AP of each query, NaN without a match.
        inverse_negative_penalty: INP of each query: matches / rank of the last match; NaN without a
            match.
        first_rank: Rank of the first match, from 1; 0 without a match. Integers, except for
            ``ties="mean"``.
        num_positives: Number of valid matches of each query.
        num_gallery: Size of the gallery, without junk.
        max_rank: Length of :attr:`cmc`.
        query_ids: Identity of each query, if known: confidence intervals resample identities.

    Example:
        >>> precision = np.array([1.0, 0.5])
        >>> first_rank, num_positives = np.array([1, 2]), np.array([1, 1])
        >>> result = ReidResult(precision, precision, first_rank, num_positives, 4, 4)
        >>> result.rank(1), result.rank(2), result.mean_ap
        (0.5, 1.0, 0.75)
        >>> result
        Rank-1 50.00  Rank-5 100.00  Rank-10 100.00  mAP 75.00  mINP 75.00  (2 queries, 4 gallery)
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
        """Number of all queries."""
        return len(self.num_positives)

    @property
    def num_valid_queries(self) -> int:
        """Number of queries with at least one valid match: the means are over these."""
        return int((self.num_positives > 0).sum())

    @property
    def mean_ap(self) -> float:
        """Mean average precision (mAP) over the whole ranking, never cut at a rank."""
        return self._mean(self.average_precision)

    @property
    def mean_inp(self) -> float:
        """Mean inverse negative penalty (mINP): how far down the hardest match is."""
        return self._mean(self.inverse_negative_penalty)

    def rank(self, k: int) -> float:
        """Return Rank-k: the share of queries with a match among the first k.

        A k beyond the gallery gives 1.

        Raises:
            ValueError: If ``k`` is not an integer or below 1.
        """
        check_integer("ReidResult.rank", "k", k, 1)
        is_hit = (self.first_rank > 0) & (self.first_rank <= k)
        return int(is_hit.sum()) / self.num_valid_queries

    @property
    def cmc(self) -> FloatArray:
        """Cumulative matching characteristic: Rank-1 to Rank-``max_rank``, never decreasing."""
        ranks = np.ceil(self.first_rank[self.first_rank > 0]).astype(np.int64)
        num_hits = np.bincount(ranks, minlength=self.max_rank + 1)
        curve: FloatArray = np.cumsum(num_hits[1 : self.max_rank + 1]) / self.num_valid_queries
        return curve

    def _mean(self, values: FloatArray) -> float:
        # fsum rounds once: the mean does not depend on the order of the queries
        total = math.fsum(values[self.num_positives > 0].tolist())
        return total / self.num_valid_queries

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
        """Compute the confidence interval of a mean by :func:`bootstrap_interval` over identities.

        Args:
            measure: Name of the mean: ``"mean_ap"``, ``"mean_inp"`` or ``"rank"``.
            k: The k of Rank-k; ``None`` for the other measures.
            groups: For each query, the group that is drawn together; defaults to :attr:`query_ids`.
            confidence: Share of samples inside the interval, above 0 and below 1.
            num_samples: Number of samples; each draws as many identities as there are.
            seed: Seed of a separate generator.

        Raises:
            ValueError: If an option is out of its range, ``k`` is missing or superfluous, no
                identities are known, or only one identity has a match.

        Example:
            >>> precision, ids = np.array([1.0, 1.0, 0.0, 0.0]), np.array([7, 7, 8, 8])
            >>> first_rank, num_positives = np.array([1, 1, 9, 9]), np.ones(4, dtype=np.int64)
            >>> result = ReidResult(precision, precision, first_rank, num_positives, 9, 9, ids)
            >>> # two identities: half of the samples draw the same one twice
            >>> result.interval("mean_ap")
            ConfidenceInterval(mean=0.5, low=0.0, high=1.0)
        """
        owner = "ReidResult.interval"
        check_measure(owner, measure, k)
        chosen = self.query_ids if groups is None else groups
        if chosen is None:
            raise ValueError(
                f"{owner}: this result has no query_ids; pass the identity of each query as groups."
            )

        values = self.of_each(measure, k)
        return bootstrap_interval(
            values, chosen, confidence=confidence, num_samples=num_samples, seed=seed
        )

    def of_each(self, measure: ReidMeasure, k: int | None = None) -> FloatArray:
        """Return the value of each query that a mean is over, NaN without a match.

        Args:
            measure: Name of the mean: ``"mean_ap"``, ``"mean_inp"`` or ``"rank"``.
            k: The k of Rank-k, whose values are 0 and 1; ``None`` for the other measures.

        Raises:
            ValueError: If there is no such measure, or ``k`` is missing, superfluous or below 1.

        Example:
            >>> precision, first_rank = np.array([1.0, 0.5]), np.array([1, 2])
            >>> num_positives = np.array([1, 1])
            >>> result = ReidResult(precision, precision, first_rank, num_positives, 4, 4)
            >>> result.of_each("rank", 1)
            array([1., 0.])
        """
        check_measure("ReidResult.of_each", measure, k)
        if k is not None:
            is_hit = (self.first_rank <= k).astype(np.float64)
            return np.where(self.num_positives > 0, is_hit, np.nan)

        is_precision = measure == "mean_ap"
        return self.average_precision if is_precision else self.inverse_negative_penalty

    def per_query(self) -> Columns:
        """Return columns with one row for each query, as ``pandas.DataFrame`` takes them."""
        columns: Columns = {"query": np.arange(self.num_queries)}
        if self.query_ids is not None:
            columns["query_id"] = self.query_ids
        for name in _PER_QUERY:
            columns[name] = getattr(self, name)
        return columns

    def write_csv(self, path: str | Path) -> None:
        """Write :meth:`per_query` to a CSV file; NaN is an empty cell."""
        write_columns(path, self.per_query())

    def to_dict(self, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, float | int]:
        """Return plain numbers for a JSON file; rates as fractions."""
        values: dict[str, float | int] = {f"rank_{k}": self.rank(k) for k in ranks}
        values["mean_ap"] = self.mean_ap
        values["mean_inp"] = self.mean_inp
        values["num_queries"] = self.num_queries
        values["num_valid_queries"] = self.num_valid_queries
        values["num_gallery"] = self.num_gallery
        return values

    def to_json(self, ranks: Sequence[int] = (1, 5, 10), *, per_query: bool = False) -> str:
        """Return JSON text of :meth:`to_dict`.

        Args:
            ranks: The k of Rank-k.
            per_query: Whether to add all columns, from which :meth:`from_json` restores the result.
        """
        values: dict[str, Any] = dict(self.to_dict(ranks))
        if per_query:
            values["max_rank"] = self.max_rank
            values["per_query"] = self.per_query()
        return json_text(values)

    @classmethod
    def from_json(cls, text: str) -> "ReidResult":
        """Restore a result that :meth:`to_json` wrote with ``per_query=True``, to the last bit.

        Raises:
            ValueError: If the text is not JSON, lacks the columns, or holds numbers that no result
                has, such as a negative precision.
        """
        owner = "ReidResult.from_json"
        try:
            values, table = _per_query_table(text)
        except ValueError as error:
            remedy = "Write it with to_json(per_query=True)."
            raise ValueError(f"{owner}: the {error}. {remedy}") from None

        for size in sorted(_SIZES):
            check_integer(owner, size, values[size], 1)
        for count in table["num_positives"]:
            check_integer(owner, "num_positives", count, 0)

        num_positives = _numbers(owner, table, "num_positives")
        ranks = _numbers(owner, table, "first_rank")
        if np.isnan(ranks).any():
            raise fail(owner, "first_rank as numbers", "null")

        result = cls(
            average_precision=_numbers(owner, table, "average_precision"),
            inverse_negative_penalty=_numbers(owner, table, "inverse_negative_penalty"),
            first_rank=np.asarray(table["first_rank"]) if len(ranks) else ranks.astype(np.int64),
            num_positives=num_positives.astype(np.int64),
            num_gallery=values["num_gallery"],
            max_rank=values["max_rank"],
            query_ids=np.asarray(table["query_id"]) if "query_id" in table else None,
        )
        _check_result(owner, result)
        return result

    def table(self, ranks: Sequence[int] = (1, 5, 10), *, confidence: float = 0.95) -> str:
        """Return a table in percent, with intervals if at least two identities are known."""
        rates = {f"Rank-{k}": self.rank(k) for k in ranks}
        rates["mAP"] = self.mean_ap
        rates["mINP"] = self.mean_inp

        intervals = []
        if has_several_ids(self.query_ids, self.num_positives):
            intervals = [self.interval("rank", k, confidence=confidence) for k in ranks]
            intervals.append(self.interval("mean_ap", confidence=confidence))
            intervals.append(self.interval("mean_inp", confidence=confidence))

        return measure_table(rates, intervals, confidence, self._note())

    def __str__(self) -> str:
        """Return one line for people, in percent."""
        if self.num_valid_queries == 0:
            return f"no query with a match ({self._note()})"

        rates = {f"Rank-{k}": self.rank(k) for k in (1, 5, 10)}
        rates["mAP"] = self.mean_ap
        rates["mINP"] = self.mean_inp
        line = "  ".join(f"{name} {100 * rate:.2f}" for name, rate in rates.items())
        return f"{line}  ({self._note()})"

    __repr__ = __str__

    def _note(self) -> str:
        note = f"{self.num_valid_queries} queries, {self.num_gallery} gallery"
        num_left_out = self.num_queries - self.num_valid_queries
        if num_left_out:
            note += f", {num_left_out} queries without a match left out"
        return note


def _numbers(owner: str, table: dict[str, Any], name: str) -> FloatArray:
    """Return a column of numbers, NaN where there is none."""
    for value in table[name]:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise fail(owner, f"{name} as numbers", repr(value))
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise fail(owner, f"{name} as numbers of at most 2^53", shown(value))
    return np.asarray(table[name], dtype=np.float64)


def _per_query_table(text: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Read the JSON of a result, and its columns with a value for each query.

    Raises:
        ValueError: If the text is no such JSON.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"text is not JSON ({error})") from None

    table = values.get("per_query") if isinstance(values, dict) else None
    if not isinstance(table, dict) or not values.keys() >= _SIZES:
        raise ValueError("JSON has no columns of each query")
    if not table.keys() >= set(_PER_QUERY):
        raise ValueError("JSON lacks columns of each query")
    if not all(isinstance(column, list) for column in table.values()):
        raise ValueError("JSON has columns that are not lists")
    if len({len(column) for column in table.values()}) > 1:
        raise ValueError("JSON has columns of different lengths")
    return values, table


def _check_result(owner: str, result: ReidResult) -> None:
    """Raise ValueError if a number is none that an evaluation returns."""
    has_match = result.num_positives > 0
    ranks = result.first_rank
    if not (ranks[has_match] >= 1).all() or ranks[~has_match].any():
        expected = "first_rank >= 1 for queries with a match, and 0 for the others"
        raise fail(owner, expected, _shortened(ranks))

    for name in ("average_precision", "inverse_negative_penalty"):
        rates = getattr(result, name)
        is_rate = (rates >= 0) & (rates <= 1)
        if not np.array_equal(is_rate, has_match) or not np.isnan(rates[~has_match]).all():
            expected = f"{name} in [0, 1] for queries with a match, and null for the others"
            raise fail(owner, expected, _shortened(rates))


def _shortened(values: npt.NDArray[Any]) -> str:
    """Represent an array by its first values."""
    return repr(values[:5].tolist()).replace("]", ", ...]" if len(values) > 5 else "]")


def check_measure(owner: str, measure: str, k: int | None) -> None:
    """Require the name of a mean, with a k for Rank-k and without one for the others."""
    check_choice(owner, "measure", measure, ("mean_ap", "mean_inp", "rank"))
    if measure == "rank" and k is None:
        raise ValueError(f"{owner}: measure 'rank' needs a k.")
    if measure != "rank" and k is not None:
        raise ValueError(f"{owner}: measure {measure!r} takes no k, got {k}.")
    if k is not None:
        check_integer(owner, "k", k, 1)


def has_several_ids(query_ids: npt.NDArray[Any] | None, num_positives: IntArray) -> bool:
    """Return whether queries of at least two ids have a match, so that intervals exist."""
    return query_ids is not None and len(np.unique(query_ids[num_positives > 0])) > 1
