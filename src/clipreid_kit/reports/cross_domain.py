"""The matrix of models trained on some data sets and tested on others."""

from collections.abc import Mapping, Sequence
from typing import Any

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.reports._table_formats import FORMATS, Cell, Table, TableFormat, format_tables
from clipreid_kit.reports.measures import TITLES, percent, rates_of
from clipreid_kit.reports.tables import mean_and_std

_OWNER = "cross_domain_table"
_MEASURES = ("R1", "mAP")
_TASK = "image_to_image"

Tasks = Mapping[str, Mapping[str, Any]]


def cross_domain_table(
    results: Mapping[str, Mapping[str, Sequence[Tasks]]], form: TableFormat = "markdown"
) -> str:
    """Format a cross-domain matrix: a row for each training set, Rank-1 and mAP by test set.

    Rates are in percent, with the standard deviation over runs where there are several.

    Args:
        results: By the name of the training set and of the test set, the numbers by task of each
            run. All training sets have the same test sets.
        form: ``"markdown"``, ``"latex"`` (needs ``booktabs``) or ``"html"``. Names are escaped.

    Raises:
        ValueError: If there is no such format, no result, or a run has no image-to-image result.

    Example:
        >>> tasks = {"image_to_image": {"rank_1": 0.75, "mean_ap": 0.5}}
        >>> print("".join(cross_domain_table({"a": {"b": [tasks]}}).splitlines(True)[2:5]), end="")
        | trained on | b, Rank-1 | b, mAP |
        |:--|--:|--:|
        | a | 75.00 | 50.00 |
    """
    check_choice(_OWNER, "form", form, FORMATS)
    tests = list(next(iter(results.values()), {}))
    if not tests:
        raise fail(_OWNER, "at least one result", "none")

    heads = ["trained on"]
    for test in tests:
        heads += [f"{test}, {TITLES[measure]}" for measure in _MEASURES]

    rows = []
    has_several_runs = False
    for trained, by_test in results.items():
        row = [Cell(trained)]
        for test in tests:
            runs = by_test.get(test, ())
            row += _cells(runs, f"{trained} on {test}")
            has_several_runs |= len(runs) > 1
        rows.append(row)

    legend = "Rows: training set. Columns: test set. Image to image, in percent."
    if has_several_runs:
        legend += " Rates of several runs: mean ± standard deviation."
    table = Table("Cross-domain results (%)", 1, heads, rows)
    return format_tables([table], legend, form, "Cross-domain results")


def _cells(runs: Sequence[Tasks], where: str) -> list[Cell]:
    """Mean and spread over runs of each measure."""
    if not runs:
        raise fail(_OWNER, f"results of {where}", "none")

    rates_of_runs = [rates_of(_image_to_image(tasks, where)) for tasks in runs]
    cells = []
    for measure in _MEASURES:
        rates = [rates[measure] for rates in rates_of_runs]
        cells.append(Cell(percent(*mean_and_std(rates))))
    return cells


def _image_to_image(tasks: Tasks, where: str) -> Mapping[str, Any]:
    """Numbers of the first image-to-image task."""
    for task, numbers in tasks.items():
        if task.startswith(_TASK):
            return numbers
    raise fail(_OWNER, f"an image-to-image result of {where}", ", ".join(tasks) or "none")
