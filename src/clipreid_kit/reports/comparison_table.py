"""A comparison of models as a table: Markdown, LaTeX and HTML, with marks of significance."""

import string
from collections.abc import Sequence

from clipreid_kit._checks import check_choice
from clipreid_kit.metrics import Comparison, PairedDifference, SeedMean
from clipreid_kit.reports._table_formats import FORMATS, Cell, Table, TableFormat, format_tables

_TITLES = {"mean_ap": "mAP", "mean_inp": "mINP"}


def comparison_table(comparison: Comparison, form: TableFormat = "markdown") -> str:
    r"""Format a comparison as two tables and a legend.

    The first table has a row for each model: rates in percent, with the standard deviation over
    runs where there are several. Each model has a letter, and the letters after a rate are those of
    the models that are significantly worse. The second table has a row for each test. The legend
    names the test, its correction and the level.

    Args:
        comparison: What :func:`~clipreid_kit.metrics.compare_results` returned.
        form: ``"markdown"``, ``"latex"`` (needs ``\usepackage{booktabs}``) or ``"html"`` (a page
            that fetches nothing). Names of models are escaped for each.

    Raises:
        ValueError: If there is no such format.

    Example:
        >>> from clipreid_kit.metrics import ConfidenceInterval
        >>> rates = {name: {"mean_ap": SeedMean(rate, None, 1)}
        ...          for name, rate in (("old", 0.5), ("new", 0.75))}
        >>> effect = ConfidenceInterval(-0.25, -0.3, -0.2)
        >>> pair = PairedDifference("old", "new", "mean_ap", effect, 0.004, 0.004, False)
        >>> comparison = Comparison(rates, (pair,), 0.05, 400, 100, 10_000)
        >>> print("\n".join(comparison_table(comparison).splitlines()[2:6]))
        |   | model | mAP |
        |:--|:--|--:|
        | a | old | 50.00 |
        | b | new | 75.00 <sup>a</sup> |
    """
    check_choice("comparison_table", "form", form, FORMATS)
    tables = [_rate_table(comparison), _difference_table(comparison)]
    return format_tables(tables, _legend(comparison), form, "Comparison")


def _rate_table(comparison: Comparison) -> Table:
    """Rates of each model, with the letters of those that are significantly worse."""
    measures = list(next(iter(comparison.rates.values())))
    letters = dict(zip(comparison.rates, _letters(len(comparison.rates)), strict=True))

    rows = []
    for name, rates in comparison.rates.items():
        row = [Cell(letters[name]), Cell(name)]
        for measure in measures:
            worse = [letters[other] for other in comparison.worse_than(name, measure)]
            row.append(Cell(_percent(rates[measure]), ",".join(sorted(worse, key=_by_length))))
        rows.append(row)

    heads = ["", "model", *map(measure_title, measures)]
    return Table("Rates (%)", 2, heads, rows)


def _difference_table(comparison: Comparison) -> Table:
    """A row for each test: effect, interval and p-values."""
    heads = ["models", "measure", "difference", f"{100 * (1 - comparison.level):g} % interval"]
    heads += ["p", "corrected p"]

    rows = []
    for pair in comparison.differences:
        names = f"{pair.first} against {pair.second}"
        effect = [_points(pair.effect.mean)]
        effect.append(f"{_points(pair.effect.low)} to {_points(pair.effect.high)}")
        mark = "*" if pair.corrected_p_value <= comparison.level else ""
        row = [Cell(names), Cell(measure_title(pair.measure)), *map(Cell, effect)]
        rows.append([*row, Cell(_p(pair.p_value)), Cell(_p(pair.corrected_p_value), mark)])

    return Table("Differences (percentage points, first minus second)", 2, heads, rows)


def _legend(comparison: Comparison) -> str:
    """Name the test, its correction and the level."""
    swaps = _swaps(comparison.differences, comparison.num_samples)
    num_runs = max(rate.num_runs for rates in comparison.rates.values() for rate in rates.values())

    sentences = [
        "Letters after a rate: the models that are significantly worse.",
        f"*: corrected p at most {comparison.level:g}.",
        f"Test: two-sided paired permutation test, {swaps} of whole identities "
        f"({comparison.num_identities:,} identities, {comparison.num_queries:,} queries).",
        f"Correction: Holm, over {_count(len(comparison.differences), 'test')}.",
        f"Intervals: percentile bootstrap over identities, {comparison.num_samples:,} samples, "
        "not corrected.",
    ]
    if num_runs > 1:
        sentences.append(
            "Rates of several runs: mean ± standard deviation. The test takes each query's mean "
            "over the runs, so it holds for these runs and not for the spread between seeds."
        )
    return " ".join(sentences)


def _swaps(differences: Sequence[PairedDifference], num_samples: int) -> str:
    """Say how many permutations were counted."""
    are_exact = {pair.is_exact for pair in differences}
    if are_exact == {True}:
        return "all swaps"
    if are_exact == {False}:
        return f"{num_samples:,} random swaps"
    return f"all swaps, or {num_samples:,} random ones where there are more,"


def measure_title(measure: str) -> str:
    """Name a measure for people.

    Example:
        >>> measure_title("rank_5"), measure_title("mean_ap")
        ('Rank-5', 'mAP')
    """
    return _TITLES.get(measure, measure.replace("rank_", "Rank-"))


def _letters(count: int) -> list[str]:
    """Return a, b, ..., z, aa, ab, ... for so many models.

    Example:
        >>> _letters(28)[24:]
        ['y', 'z', 'aa', 'ab']
    """
    letters = []
    for number in range(count):
        text = ""
        rest = number + 1
        while rest:
            rest, digit = divmod(rest - 1, 26)
            text = string.ascii_lowercase[digit] + text
        letters.append(text)
    return letters


def _by_length(letters: str) -> tuple[int, str]:
    return len(letters), letters


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _percent(rate: SeedMean) -> str:
    spread = "" if rate.std is None else f" ± {100 * rate.std:.2f}"
    return f"{100 * rate.mean:.2f}{spread}"


def _points(difference: float) -> str:
    r"""Percentage points with a sign, which zero has not.

    Example:
        >>> _points(0.0123), _points(-0.5) == "\u221250.00", _points(-1e-9)
        ('+1.23', True, '0.00')
    """
    text = f"{100 * difference:+.2f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\u2212")  # a minus sign


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.00005 else f"{value:.4f}"
