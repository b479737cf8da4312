"""The results of an evaluation over several galleries: mean and spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import fail
from clipreid_kit.metrics.results._output_formats import Columns, align, json_text, write_columns
from clipreid_kit.metrics.results.reid_result import ReidMeasure, ReidResult, check_measure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SplitResults:
    """Results of several splits into queries and gallery, with mean and spread.

    All rates are fractions in [0, 1]. The spread shows how much depends on the choice of the
    galleries. The splits share one model and most images, so it does *not* show how much another
    training run would differ.

    Attributes:
        results: Result of each split.
        protocol: Name of the protocol and its options.
        query_rows: For each split, the rows that were its queries; empty if all splits have the
            same queries.

    Example:
        >>> one, half = np.array([1.0]), np.array([0.5])
        >>> first = ReidResult(one, one, np.array([1]), np.array([1]), 4, 4)
        >>> second = ReidResult(half, half, np.array([2]), np.array([1]), 4, 4)
        >>> both = SplitResults((first, second), "two galleries")
        >>> both.mean_ap, both.rank(1), round(both.std("mean_ap"), 4)
        (0.75, 0.5, 0.3536)
    """

    results: tuple[ReidResult, ...]
    protocol: str
    query_rows: tuple[IntArray, ...] = ()

    def __post_init__(self) -> None:
        num_splits = len(self.results)
        if num_splits == 0:
            raise ValueError(
                "SplitResults: results are empty; pass the result of at least one split."
            )
        if len(self.query_rows) not in (0, num_splits):
            expected = f"query_rows of {num_splits} splits, or of none"
            raise fail("SplitResults", expected, len(self.query_rows))

    @property
    def num_splits(self) -> int:
        """Number of splits."""
        return len(self.results)

    def values(self, measure: ReidMeasure, k: int | None = None) -> FloatArray:
        """Return a mean of each split.

        Args:
            measure: ``"mean_ap"``, ``"mean_inp"`` or ``"rank"``.
            k: The k of Rank-k; ``None`` for the other measures.

        Raises:
            ValueError: If the name is unknown, or ``k`` is missing or superfluous.
        """
        check_measure("SplitResults.values", measure, k)
        if k is not None:
            return np.array([result.rank(k) for result in self.results])
        return np.array([getattr(result, measure) for result in self.results])

    def std(self, measure: ReidMeasure, k: int | None = None) -> float:
        """Return the sample standard deviation of :meth:`values` (divided by splits - 1).

        NaN for a single split.
        """
        values = self.values(measure, k)
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    @property
    def mean_ap(self) -> float:
        """Mean over splits of the mean average precision."""
        return float(self.values("mean_ap").mean())

    @property
    def mean_inp(self) -> float:
        """Mean over splits of the mean inverse negative penalty."""
        return float(self.values("mean_inp").mean())

    def rank(self, k: int) -> float:
        """Return the mean over splits of Rank-k.

        Raises:
            ValueError: If ``k`` is below 1.
        """
        return float(self.values("rank", k).mean())

    @property
    def cmc(self) -> FloatArray:
        """Mean over splits of the cumulative matching characteristic, up to the largest rank."""
        longest = max(result.max_rank for result in self.results)
        return np.array([self.rank(k) for k in range(1, longest + 1)])

    def per_query(self) -> Columns:
        """Return the columns of all splits, concatenated; ``query`` is the row in the whole set."""
        tables = [result.per_query() for result in self.results]
        for table, rows in zip(tables, self.query_rows, strict=False):
            table["query"] = rows

        num_queries = [result.num_queries for result in self.results]
        columns = {"split": np.repeat(np.arange(self.num_splits), num_queries)}
        for name in tables[0]:
            columns[name] = np.concatenate([table[name] for table in tables])
        return columns

    def write_csv(self, path: str | Path) -> None:
        """Write :meth:`per_query` to a CSV file; NaN is an empty cell."""
        write_columns(path, self.per_query())

    def to_dict(self, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
        """Return plain numbers for a JSON file: mean, spread and all splits; rates as fractions."""
        mean: dict[str, float] = {}
        std: dict[str, float | None] = {}
        for name, measure, k in _measures("rank_", ranks, "mean_ap", "mean_inp"):
            mean[name] = float(self.values(measure, k).mean())
            std[name] = None if self.num_splits == 1 else self.std(measure, k)

        return {
            "protocol": self.protocol,
            "num_splits": self.num_splits,
            "mean": mean,
            "std": std,
            "splits": [result.to_dict(ranks) for result in self.results],
        }

    def to_json(self, ranks: Sequence[int] = (1, 5, 10)) -> str:
        """Return JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(ranks))

    def table(self, ranks: Sequence[int] = (1, 5, 10)) -> str:
        """Return a table in percent: mean, standard deviation, minimum and maximum."""
        rows = [["", "mean", "std", "min", "max"]]
        for name, measure, k in _measures("Rank-", ranks, "mAP", "mINP"):
            values = self.values(measure, k)
            shown = [values.mean(), self.std(measure, k), values.min(), values.max()]
            rows.append([name, *map(_percent, shown)])
        return "\n".join([*align(rows), self._note()])

    def __str__(self) -> str:
        """Return one line for people, in percent."""
        ranks = "  ".join(f"Rank-{k} {100 * self.rank(k):.2f}" for k in (1, 5, 10))
        spread = f" ± {100 * self.std('mean_ap'):.2f}" if self.num_splits > 1 else ""
        means = f"mAP {100 * self.mean_ap:.2f}{spread}  mINP {100 * self.mean_inp:.2f}"
        return f"{ranks}  {means}  ({self._note()})"

    __repr__ = __str__

    def _note(self) -> str:
        num_valid = [result.num_valid_queries for result in self.results]
        num_left_out = [result.num_queries - result.num_valid_queries for result in self.results]
        num_gallery = [result.num_gallery for result in self.results]

        note = f"{self.protocol}; {_range(num_valid)} queries, {_range(num_gallery)} gallery"
        if any(num_left_out):
            note += f", {_range(num_left_out)} queries without a match left out"
        return note


def _measures(
    rank_prefix: str, ranks: Sequence[int], mean_ap: str, mean_inp: str
) -> list[tuple[str, ReidMeasure, int | None]]:
    """Return a name, the measure and its k for each of the reported means."""
    measures: list[tuple[str, ReidMeasure, int | None]] = []
    measures += [(f"{rank_prefix}{k}", "rank", k) for k in ranks]
    measures.append((mean_ap, "mean_ap", None))
    measures.append((mean_inp, "mean_inp", None))
    return measures


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}" if np.isfinite(rate) else "-"


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
