"""Compare results of the same queries by paired tests over identities."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clipreid_kit._checks import check_number, fail, shown
from clipreid_kit.metrics._engine.id_columns import Ids, id_array
from clipreid_kit.metrics.results.bootstrap import ConfidenceInterval, bootstrap_interval
from clipreid_kit.metrics.results.holm import holm_correction
from clipreid_kit.metrics.results.permutation_test import paired_permutation_test
from clipreid_kit.metrics.results.reid_result import ReidResult

FloatArray = npt.NDArray[np.float64]

_OWNER = "compare_results"


class SeedMean(NamedTuple):
    """A rate over the runs of a model.

    Attributes:
        mean: Mean over its runs.
        std: Standard deviation between its runs (divided by runs - 1); ``None`` of a single run.
        num_runs: Number of its runs.
    """

    mean: float
    std: float | None
    num_runs: int


class PairedDifference(NamedTuple):
    """The difference of two models in one measure.

    Attributes:
        first: Name of the one model.
        second: Name of the other model.
        measure: Such as ``mean_ap``.
        effect: Rate of ``first`` minus rate of ``second``, with its bootstrap interval.
        p_value: Of the permutation test, uncorrected.
        corrected_p_value: The same, corrected for all tests of the comparison.
        is_exact: Whether every permutation was counted.
    """

    first: str
    second: str
    measure: str
    effect: ConfidenceInterval
    p_value: float
    corrected_p_value: float
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rates of several models, and the differences between them.

    Attributes:
        rates: Rate by model and measure, as fractions.
        differences: One of each pair of models and each measure.
        level: A corrected p-value up to this is significant; intervals have confidence 1 - level.
        num_queries: Number of queries with a match.
        num_identities: Number of their identities (or groups).
        num_samples: Number of random permutations and of bootstrap samples.
    """

    rates: dict[str, dict[str, SeedMean]]
    differences: tuple[PairedDifference, ...]
    level: float
    num_queries: int
    num_identities: int
    num_samples: int

    def worse_than(self, name: str, measure: str) -> list[str]:
        """Return the models that are significantly worse than ``name`` in a measure.

        Raises:
            ValueError: If there is no such model or measure.
        """
        if name not in self.rates or measure not in self.rates[name]:
            known = f"{', '.join(self.rates)} and {', '.join(next(iter(self.rates.values())))}"
            raise ValueError(
                f"Comparison.worse_than: there is no {shown(measure)} of {shown(name)}; "
                f"this comparison has {known}."
            )

        worse = []
        for pair in self.differences:
            if pair.measure != measure or pair.corrected_p_value > self.level:
                continue
            if pair.first == name and pair.effect.mean > 0:
                worse.append(pair.second)
            if pair.second == name and pair.effect.mean < 0:
                worse.append(pair.first)
        return worse


def compare_results(
    results: Mapping[str, ReidResult | Sequence[ReidResult]],
    *,
    measures: Sequence[str] = ("rank_1", "mean_ap", "mean_inp"),
    baseline: str | None = None,
    groups: Ids | None = None,
    level: float = 0.05,
    num_samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Test which of several models differ, on the same queries and gallery.

    Each pair is compared query by query: the effect is the mean difference, its interval is by
    :func:`bootstrap_interval`, and its p-value by :func:`paired_permutation_test`, both over
    identities. P-values are corrected by :func:`holm_correction` for all pairs and measures; the
    intervals are not corrected.

    Of a model with several runs (seeds), each query has the mean of its values over the runs. The
    test then says whether *these* runs differ on other identities. It does not contain the spread
    between seeds, which the rates report beside it.

    Args:
        results: Result of each model by name, or the results of its runs; all of the same queries
            in the same order.
        measures: Any of ``"mean_ap"``, ``"mean_inp"`` and ``"rank_1"``, ``"rank_5"``, ....
        baseline: Model that all others are compared with; ``None`` compares all pairs. Fewer
            tests need less correction.
        groups: For each query, what is swapped and drawn together; defaults to ``query_ids``.
        level: Significance level, above 0 and below 1.
        num_samples: Number of permutations and of bootstrap samples. Of so few identities that
            there are no more permutations, all are counted.
        seed: Seed of a separate generator.

    Raises:
        ValueError: If there are fewer than two models, a model has no run, the results are of
            other queries or another protocol, a value is missing, the identities are unknown or
            only one has a match, or an option is out of its range.

    Example:
        >>> def result(*precision):
        ...     ones = np.ones(4, dtype=np.int64)
        ...     return ReidResult(np.array(precision), np.ones(4), ones, ones, 9, 9, np.arange(4))
        >>> results = {"new": result(0.9, 0.8, 0.7, 0.6), "old": result(0.8, 0.6, 0.5, 0.5)}
        >>> comparison = compare_results(results, measures=["mean_ap"])
        >>> pair = comparison.differences[0]
        >>> round(pair.effect.mean, 2), pair.p_value  # 2 of 16 swaps are as extreme
        (0.15, 0.125)
        >>> comparison.worse_than("new", "mean_ap")  # four identities can never be significant
        []

    References:
        Smucker, Allan and Carterette, CIKM 2007 (the test). Holm 1979 (the correction). Field and
        Welsh, JRSS B 2007 (the bootstrap over groups).
    """
    check_number(_OWNER, "level", level)
    if not 0 < level < 1:
        raise fail(_OWNER, "level above 0 and below 1", level)

    runs = _runs_of_models(results)
    first = next(iter(runs.values()))[0]
    for name, members in runs.items():
        for member in members:
            _check_same_queries(name, member, first)

    identities = _identities(runs, groups)
    rates, values = _values_of_models(runs, measures)
    pairs = _pairs(list(runs), baseline)

    untested = []
    for measure, (one, other) in itertools.product(measures, pairs):
        difference = values[one, measure] - values[other, measure]
        effect = bootstrap_interval(
            difference, identities, confidence=1 - level, num_samples=num_samples, seed=seed
        )
        test = paired_permutation_test(difference, identities, num_samples=num_samples, seed=seed)
        untested.append((one, other, measure, effect, test))

    corrected = holm_correction([test.p_value for *_, test in untested])
    differences = []
    for (one, other, measure, effect, test), p_value in zip(untested, corrected, strict=True):
        differences.append(
            PairedDifference(one, other, measure, effect, test.p_value, p_value, test.is_exact)
        )

    return Comparison(
        rates=rates,
        differences=tuple(differences),
        level=level,
        num_queries=first.num_valid_queries,
        num_identities=len(np.unique(identities[first.num_positives > 0])),
        num_samples=num_samples,
    )


def _runs_of_models(results: object) -> dict[str, list[ReidResult]]:
    """Return the runs of each model; raise ValueError if there is nothing to compare."""
    if not isinstance(results, Mapping) or len(results) < 2:
        got = len(results) if isinstance(results, Mapping) else type(results).__name__
        raise fail(_OWNER, "results of at least two models, by name", got)

    runs = {}
    for name, members in results.items():
        runs[name] = list(members) if isinstance(members, Sequence) else [members]
        if not runs[name]:
            raise ValueError(f"{_OWNER}: {shown(name)} has no result; leave it out.")
        for member in runs[name]:
            if not isinstance(member, ReidResult):
                raise fail(_OWNER, f"a ReidResult of {shown(name)}", type(member).__name__)
    return runs


def _check_same_queries(name: str, result: ReidResult, first: ReidResult) -> None:
    """Raise ValueError unless two results are of the same queries, gallery and rules."""
    who = f"{_OWNER}: the result of {shown(name)}"
    remedy = "Evaluate all models on the same queries, in the same order."
    if result.num_queries != first.num_queries:
        raise ValueError(
            f"{who} has {result.num_queries} queries, and the first has {first.num_queries}. "
            f"{remedy}"
        )

    ids, first_ids = result.query_ids, first.query_ids
    if ids is not None and first_ids is not None and not np.array_equal(ids, first_ids):
        raise ValueError(f"{who} has other query_ids than the first. {remedy}")

    is_same_size = result.num_gallery == first.num_gallery
    if not is_same_size or not np.array_equal(result.num_positives, first.num_positives):
        raise ValueError(
            f"{who} has another gallery or other valid matches than the first. "
            "Evaluate all models by the same protocol."
        )


def _identities(runs: Mapping[str, Sequence[ReidResult]], groups: Ids | None) -> npt.NDArray[Any]:
    """Return the identity of each query, as given or as any of the results knows it."""
    results = [result for members in runs.values() for result in members]
    if groups is not None:
        return id_array(_OWNER, "groups", groups, results[0].num_queries)

    for result in results:
        if result.query_ids is not None:
            return result.query_ids
    raise ValueError(
        f"{_OWNER}: the results have no query_ids; pass the identity of each query as groups."
    )


def _values_of_models(
    runs: Mapping[str, Sequence[ReidResult]], measures: Sequence[str]
) -> tuple[dict[str, dict[str, SeedMean]], dict[tuple[str, str], FloatArray]]:
    """Return the rates of each model, and its mean value of each query, by measure."""
    if isinstance(measures, str) or not measures or len(set(measures)) < len(measures):
        raise fail(_OWNER, "measures as a list of different names", shown(measures))

    rates: dict[str, dict[str, SeedMean]] = {}
    values = {}
    for name, members in runs.items():
        rates[name] = {}
        for measure in measures:
            of_runs = np.stack([_values(name, result, measure) for result in members])
            values[name, measure] = of_runs.mean(axis=0)

            means = np.nanmean(of_runs, axis=1)
            std = float(means.std(ddof=1)) if len(means) > 1 else None
            rates[name][measure] = SeedMean(float(means.mean()), std, len(means))
    return rates, values


def _values(name: str, result: ReidResult, measure: str) -> FloatArray:
    """Return a measure of each query, NaN only without a match."""
    rank = re.fullmatch(r"rank_([1-9]\d{0,8})", str(measure))
    if rank:
        values = result.of_each("rank", int(rank[1]))
    elif measure == "mean_ap":
        values = result.of_each("mean_ap")
    elif measure == "mean_inp":
        values = result.of_each("mean_inp")
    else:
        raise fail(_OWNER, "measures such as mean_ap, mean_inp and rank_1", shown(measure))

    if not np.isfinite(values[result.num_positives > 0]).all():
        raise ValueError(
            f"{_OWNER}: {measure} of {shown(name)} is NaN or infinite for a query with a match. "
            "Evaluate that model again."
        )
    if not (result.num_positives > 0).any():
        raise ValueError(f"{_OWNER}: no query has a valid match, so there is nothing to compare.")
    return values


def _pairs(names: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """Return the pairs of models to compare, each once."""
    if baseline is None:
        return list(itertools.combinations(names, 2))
    if baseline not in names:
        raise fail(_OWNER, f"baseline as one of {', '.join(names)}", shown(baseline))
    return [(name, baseline) for name in names if name != baseline]
