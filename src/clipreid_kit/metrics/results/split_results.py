"""What an evaluation over several galleries returns: mean and spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.metrics.results.reid_result import ReidMeasure, ReidResult
from clipreid_kit.metrics.results.tables import Columns, aligned, json_text, write_columns

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SplitResults:
    """Results of several splits into queries and gallery, and their mean and spread. Rates are fractions in [0, 1].

    The spread says how much hangs on the draw of the galleries. The splits share one model and most images, so it does
    *not* say how far another training run would be.

    Attributes:
        results: Result of each split.
        protocol: What was done, in words.
        query_rows: For each split, the rows that were its queries; empty if these were the same in all.

    Example:
        >>> one = ReidResult(np.array([1.0]), np.array([1.0]), np.array([1]), np.array([1]), 4, 4)
        >>> two = ReidResult(np.array([0.5]), np.array([0.5]), np.array([2]), np.array([1]), 4, 4)
        >>> both = SplitResults((one, two), "two galleries")
        >>> both.mean_ap, both.rank(1), round(both.std("mean_ap"), 4)
        (0.75, 0.5, 0.3536)
    """

    results: tuple[ReidResult, ...]
    protocol: str
    query_rows: tuple[IntArray, ...] = ()

    def __post_init__(self) -> None:
        if len(self.results) == 0:
            raise fail("SplitResults", "the result of at least one split", "none")
        if len(self.query_rows) not in (0, len(self.results)):
            raise fail(
                "SplitResults",
                f"query_rows of {len(self.results)} splits, or of none",
                len(self.query_rows),
            )

    @property
    def num_splits(self) -> int:
        """How many splits there are."""
        return len(self.results)

    def values(self, measure: ReidMeasure, k: int | None = None) -> FloatArray:
        """A mean of each split: ``"mean_ap"``, ``"mean_inp"`` or ``"rank"``, the last with its ``k``.

        Raises:
            ValueError: If the name is unknown, or ``k`` is missing or superfluous.
        """
        owner = "SplitResults.values"
        check_choice(owner, "measure", measure, ("mean_ap", "mean_inp", "rank"))
        if (k is None) == (measure == "rank"):
            raise fail(owner, f"{'a' if k is None else 'no'} k with {measure!r}", k)
        return np.array(
            [getattr(result, measure) if k is None else result.rank(k) for result in self.results]
        )

    def std(self, measure: ReidMeasure, k: int | None = None) -> float:
        """Sample standard deviation of :meth:`values` (divided by splits - 1); NaN for a single split."""
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
        """Mean over splits of Rank-k.

        Raises:
            ValueError: If ``k`` is below 1.
        """
        return float(self.values("rank", k).mean())

    @property
    def cmc(self) -> FloatArray:
        """Mean over splits of the cumulative matching characteristic, to the largest ``max_rank``."""
        longest = max(result.max_rank for result in self.results)
        return np.array([self.rank(k) for k in range(1, longest + 1)])

    def per_query(self) -> Columns:
        """Columns of all splits, one below the other; ``query`` is the row among all that were given."""
        tables = [result.per_query() for result in self.results]
        for table, rows in zip(tables, self.query_rows, strict=False):
            table["query"] = rows
        split = np.repeat(
            np.arange(self.num_splits), [result.num_queries for result in self.results]
        )
        return {
            "split": split,
            **{name: np.concatenate([table[name] for table in tables]) for name in tables[0]},
        }

    def write_csv(self, path: str | Path) -> None:
        """Write :meth:`per_query` to a CSV file; NaN is an empty cell."""
        write_columns(path, self.per_query())

    def to_dict(self, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
        """Plain numbers for a JSON file: protocol, mean, spread, and each split; rates as fractions."""
        wanted: list[tuple[str, ReidMeasure, int | None]] = [
            (f"rank_{k}", "rank", k) for k in ranks
        ]
        wanted += [("mean_ap", "mean_ap", None), ("mean_inp", "mean_inp", None)]
        return {
            "protocol": self.protocol,
            "num_splits": self.num_splits,
            "mean": {name: float(self.values(measure, k).mean()) for name, measure, k in wanted},
            "std": {
                name: None if self.num_splits == 1 else self.std(measure, k)
                for name, measure, k in wanted
            },
            "splits": [result.to_dict(ranks) for result in self.results],
        }

    def to_json(self, ranks: Sequence[int] = (1, 5, 10)) -> str:
        """JSON text of :meth:`to_dict`."""
        return json_text(self.to_dict(ranks))

    def table(self, ranks: Sequence[int] = (1, 5, 10)) -> str:
        """A table for people, in percent: mean, standard deviation, lowest and highest of the splits."""
        wanted: list[tuple[str, ReidMeasure, int | None]] = [
            (f"Rank-{k}", "rank", k) for k in ranks
        ]
        wanted += [("mAP", "mean_ap", None), ("mINP", "mean_inp", None)]
        rows = [["", "mean", "std", "min", "max"]]
        for name, measure, k in wanted:
            values = self.values(measure, k)
            shown = [values.mean(), self.std(measure, k), values.min(), values.max()]
            rows.append(
                [name, *(f"{100 * value:.2f}" if np.isfinite(value) else "-" for value in shown)]
            )
        return "\n".join([*aligned(rows), self._note()])

    def __str__(self) -> str:
        """One line for people, in percent."""
        ranks = "  ".join(f"Rank-{k} {100 * self.rank(k):.2f}" for k in (1, 5, 10))
        spread = f" ± {100 * self.std('mean_ap'):.2f}" if self.num_splits > 1 else ""
        return f"{ranks}  mAP {100 * self.mean_ap:.2f}{spread}  mINP {100 * self.mean_inp:.2f}  ({self._note()})"

    def _note(self) -> str:
        def spread(counts: list[int]) -> str:
            low, high = min(counts), max(counts)
            return str(low) if low == high else f"{low} to {high}"

        queries = spread([result.num_valid_queries for result in self.results])
        left_out = [result.num_queries - result.num_valid_queries for result in self.results]
        note = f", {spread(left_out)} queries without a match left out" if any(left_out) else ""
        gallery = spread([result.num_gallery for result in self.results])
        return f"{self.protocol}; {queries} queries, {gallery} gallery{note}"
