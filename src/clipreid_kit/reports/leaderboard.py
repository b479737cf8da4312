"""A leaderboard of runs as one page, made from their result files."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clipreid_kit.reports._html_page import render_page
from clipreid_kit.reports.measures import TITLES, rates_of, task_title
from clipreid_kit.reports.run_comparison import Model, read_models
from clipreid_kit.reports.tables import mean_and_std

Numbers = dict[str, list[Mapping[str, Any]]]  # of the runs of a model, by its name
Mean = tuple[float | None, float | None]  # with its standard deviation

_ORDER = "mAP"


class BoardRate(NamedTuple):
    """A rate of a model over its seeds, as a fraction; ``None`` if it was not measured."""

    mean: float | None
    std: float | None
    is_best: bool


class BoardRow(NamedTuple):
    """A model: its rates, and texts on what they come from."""

    name: str
    rates: Sequence[BoardRate]
    about: Sequence[str]


@dataclass(frozen=True, slots=True)
class Board:
    """Models that were tested on the same images.

    Attributes:
        title: The task.
        note: On what was tested.
        order: The column by which the rows are ordered.
        rows: The models, best first.
    """

    title: str
    note: str
    order: str
    rows: list[BoardRow]


def leaderboard_page(paths: Iterable[Path], *, title: str = "Leaderboard") -> str:
    """Make an HTML page that ranks runs, from their result files.

    There is a table for each task and each set of test images, since rates on different images do
    not compare. Runs of one recipe that differ in their seed are one row. The page fetches nothing,
    and its columns are sorted by a click. It says how large differences are; whether they are
    chance is for :func:`compare_runs`.

    Needs jinja2 (``pip install clipreid_kit[report]``).

    Args:
        paths: Folders of runs, folders that hold runs at any depth, or result files.
        title: Heading of the page.

    Raises:
        ValueError: If a path holds no run or result, or a file is missing or damaged.
    """
    models = read_models(paths)
    boards = []
    for (task, fingerprint), numbers in _numbers(models).items():
        boards.append(_board(task, fingerprint, numbers, models))

    num_runs = sum(len(model.runs) for model in models)
    recipes = {}
    for model in models:
        settings = {key: value for key, value in model.files[0].recipe.items() if key != "seed"}
        recipes[model.name] = json.dumps(settings, indent=2) if settings else "unknown"

    return render_page(
        "leaderboard.html",
        title=title,
        summary=f"{num_runs} runs of {len(models)} models. Rates in percent, mean ± standard "
        "deviation over seeds.",
        boards=boards,
        rates=list(TITLES.values()),
        recipes=recipes,
    )


def _numbers(models: Sequence[Model]) -> dict[tuple[str, str], Numbers]:
    """Group the numbers of all runs by task and fingerprint of the test images."""
    grouped: dict[tuple[str, str], Numbers] = {}
    for model in models:
        for file in model.files:
            for task, numbers in file.numbers.items():
                board = grouped.setdefault((task, file.fingerprint or ""), {})
                board.setdefault(model.name, []).append(numbers)
    return grouped


def _board(task: str, fingerprint: str, numbers: Numbers, models: Sequence[Model]) -> Board:
    """Make the table of one task and one set of test images."""
    about = {model.name: _about(model, fingerprint) for model in models}
    means: dict[str, list[Mean]] = {}
    for name, of_runs in numbers.items():
        rates = [rates_of(of_run) for of_run in of_runs]
        means[name] = [mean_and_std([of_run[column] for of_run in rates]) for column in TITLES]

    best = [_highest(column) for column in zip(*means.values(), strict=True)]

    rows = []
    for name, of_model in means.items():
        cells = []
        for (mean, std), highest in zip(of_model, best, strict=True):
            cells.append(BoardRate(mean, std, mean is not None and mean == highest))
        rows.append(BoardRow(name, cells, about[name]))

    rows.sort(key=_order, reverse=True)
    return Board(task_title(task), _note(fingerprint), _ORDER, rows)


def _highest(column: Iterable[Mean]) -> float | None:
    return max((mean for mean, _ in column if mean is not None), default=None)


def _order(row: BoardRow) -> float:
    """The rate that rows are ordered by; least where it was not measured."""
    mean = row.rates[list(TITLES.values()).index(_ORDER)].mean
    return -math.inf if mean is None else mean


def _about(model: Model, fingerprint: str) -> list[str]:
    """Texts on the runs of a model: seeds, stage, versions and revision."""
    files = [file for file in model.files if (file.fingerprint or "") == fingerprint]
    recipes = [file.recipe for file in files]
    versions = [file.versions for file in files]
    revisions = [str(version.get("revision") or "") for version in versions]

    return [
        _joined(recipe.get("seed") for recipe in recipes),
        _joined(recipe.get("stage") for recipe in recipes),
        _joined(version.get("clipreid_kit") for version in versions),
        _joined(version.get("torch") for version in versions),
        _joined(revision[:9] for revision in revisions),
    ]


def _joined(values: Iterable[object]) -> str:
    """Join the different values that are known."""
    known = dict.fromkeys(str(value) for value in values if value not in (None, ""))
    return ", ".join(known) or "-"


def _note(fingerprint: str) -> str:
    if not fingerprint:
        return (
            "These files do not say what was tested: compare them only if you know it is the same."
        )
    return f"Test images: {fingerprint[:12]} (fingerprint)."
