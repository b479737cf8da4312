"""Pictures of many runs: each run's training, all versions side by side, and what they reached."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipreid_kit.viz import save_figure, training_figure
from examples.report.markdown import percent, title
from examples.report.runs import Run, natural, rate
from examples.report.tables import Cell, groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {"R1": "Rank-1", "mAP": "mAP"}
_BLUE, _TEXT, _MUTED, _GRID = "#005fb0", "#1b2430", "#5b6675", "#e3e7ec"


def write_figures(
    out: Path, runs: Sequence[Run], table: Sequence[Mapping[str, Cell]]
) -> list[Path]:
    """Write every picture that the runs give rise to, as PNG; returns where they are.

    ``training/<run>.png`` shows the terms of the loss and the validation of one run, ``rank_1_by_epoch.png`` and
    ``map_by_epoch.png`` the validation of all versions, and ``<task>_rank_1.png`` and ``<task>_map.png`` the test
    figures of all versions, from the rows of ``group_rows``.
    """
    figures: dict[str, Figure] = {}
    for run in runs:
        file = f"training/{run.name.replace('/', '__')}"
        if run.rows:
            figures[file] = _training(run)
        if run.prompt_rows:
            figures[f"{file}_prompt"] = training_figure(
                run.prompt_rows,
                metric_keys=(),
                titles=(f"{run.name}: prompt loss", ""),
                size=(5.0, 3.4),
            )
    for measure, name in _NAMES.items():
        short = name.lower().replace("-", "_")
        validated = {
            version: [run for run in members if any(y is not None for _, y in _curve(run, measure))]
            for version, members in sorted(groups(runs).items(), key=lambda item: natural(item[0]))
        }
        validated = {version: members for version, members in validated.items() if members}
        if validated:
            figures[f"{short}_by_epoch"] = _panels(
                validated, measure, f"{name} on validation by epoch (%)"
            )
        for task in dict.fromkeys(str(row["task"]) for row in table):
            rows = [row for row in table if row["task"] == task]
            heading = f"{name} on the test set (%)\n{title(task)}"
            figures[f"{task.replace('.', '_')}_{short}"] = _bars(rows, measure, heading)
    for file, figure in figures.items():
        path = out / f"{file}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path)
    return [out / f"{file}.png" for file in figures]


def _training(run: Run) -> "Figure":
    """The loss and its terms beside the validation of one run."""
    rows = [
        {**row, **{measure: rate(run.validation(row), measure) for measure in _NAMES}}
        for row in run.rows
    ]
    metrics = {m: name for m, name in _NAMES.items() if any(row[m] is not None for row in rows)}
    terms = run.terms if len(run.terms) > 1 else []
    losses = {"loss": "loss", **{term: term.replace("_", " ") for term in terms}}
    heading = f"{run.name}: loss" + (" and its terms" if terms else "")
    return training_figure(
        rows,
        loss_keys=losses,
        metric_keys=metrics,
        best_epoch=run.best_epoch,
        titles=(heading, "Validation (%)"),
        size=(10.0 if metrics else 5.6, 3.6),
    )


def _curve(run: Run, measure: str) -> list[tuple[int, float | None]]:
    return [(row["epoch"], rate(run.validation(row), measure)) for row in run.rows]


def _panels(versions: Mapping[str, Sequence[Run]], measure: str, heading: str) -> "Figure":
    """A panel for each version with a line for each of its seeds; all have one scale, and the best epoch a dot."""
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(versions))
    lines = math.ceil(len(versions) / columns)
    figure, panels = _blank(
        max(5.0, 3.2 * columns), 2.3 * lines + 0.5, heading, rows=lines, columns=columns
    )
    last_epoch = max(run.rows[-1]["epoch"] for members in versions.values() for run in members)
    for axes, (version, members) in zip(panels, versions.items(), strict=False):
        seeds = f", {len(members)} runs" if len(members) > 1 else ""
        unfinished = sum(run.results is None for run in members)
        killed = (
            ""
            if not unfinished
            else ", unfinished"
            if len(members) == 1
            else f", {unfinished} unfinished"
        )
        axes.set_title(
            f"{version}{seeds}{killed}", loc="left", fontsize=9, color=_TEXT, parse_math=False
        )
        axes.set_ylim(0, 100)
        axes.set_xlim(0, last_epoch * 1.02 + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(axis="y", color=_GRID, linewidth=0.9)
        for run in members:
            known = [
                (epoch, 100 * value) for epoch, value in _curve(run, measure) if value is not None
            ]
            axes.plot(
                *zip(*known, strict=True),
                color=_BLUE,
                linewidth=1.4,
                alpha=0.55 if len(members) > 1 else 1.0,
            )
            chosen = [point for point in known if point[0] == run.best_epoch]
            if len(known) == 1 or chosen:
                axes.plot(
                    *zip(*(chosen or known), strict=True),
                    "o",
                    color=_BLUE,
                    markersize=5,
                    clip_on=False,
                )
        tops = [(100 * value, epoch) for run in members for epoch, value in _curve(run, measure)
                if value is not None and epoch == run.best_epoch]  # fmt: skip
        if tops:
            (low, epoch), (high, _) = min(tops), max(tops)
            best = (
                f"best: {low:.1f} at epoch {epoch}"
                if len(tops) == 1
                else f"best: {low:.1f} to {high:.1f}"
            )
            # where a curve that rises leaves room
            axes.text(
                0.97, 0.06, best, transform=axes.transAxes, ha="right", fontsize=8.5, color=_MUTED
            )
    for axes in panels[len(versions) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(versions) - columns) : len(versions)]:
        axes.set_xlabel("epoch", fontsize=9, color=_MUTED)
    return figure


def _bars(rows: Sequence[Mapping[str, Cell]], measure: str, heading: str) -> "Figure":
    """The versions from the best to the worst, with values; a line for the spread over seeds, a tick for before."""
    bars = [
        row
        for row in rows
        if row["moment"] != "before" and isinstance(row[f"{measure}_fraction"], float)
    ]
    bars.sort(
        key=lambda row: (_number(row[f"{measure}_fraction"]), natural(str(row["version"]))[::-1])
    )
    before = {
        row["version"]: row[f"{measure}_fraction"] for row in rows if row["moment"] == "before"
    }
    figure, (axes,) = _blank(7.2, 0.34 * len(bars) + 1.3, heading)
    for place, row in enumerate(bars):
        value, spread = row[f"{measure}_fraction"], row[f"{measure}_std_fraction"]
        colour = _MUTED if row["moment"] == "zero_shot" else _BLUE
        axes.barh(place, 100 * _number(value), height=0.66, color=colour)
        start, end = (100 * (_number(value) + sign * _number(spread)) for sign in (-1, 1))
        if spread is not None:
            axes.plot([start, end], [place, place], color=_TEXT, linewidth=1.2)
        if isinstance(before.get(row["version"]), float):
            x = 100 * _number(before[row["version"]])
            axes.plot([x, x], [place - 0.33, place + 0.33], color="#ffb070", linewidth=2)
        text = percent(_number(value), None if spread is None else _number(spread))
        axes.text(end + 1, place, text, va="center", fontsize=8.5, color=_TEXT)
    several = [f"{row['version']} ({row['num_runs']} runs)" if row["num_runs"] != 1 else str(row["version"])
               for row in bars]  # fmt: skip
    axes.set_yticks(range(len(bars)), several, parse_math=False)
    axes.set_xlim(0, 118)  # room for the values
    axes.spines["bottom"].set_bounds(0, 100)
    axes.set_xticks(range(0, 101, 20))
    axes.set_ylim(-0.6, max(len(bars), 1) - 0.4)
    if any(row["version"] in before for row in bars):
        axes.set_xlabel("the orange mark: before training", fontsize=8.5, color=_MUTED)
    return figure


def _blank(
    width: float, height: float, heading: str, *, rows: int = 1, columns: int = 1
) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, x=0.01, ha="left", fontsize=10.5, color=_TEXT)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_MUTED)
        axes.tick_params(colors=_MUTED, labelsize=8.5, length=0)
        axes.set_axisbelow(True)
    return figure, panels


def _number(value: Cell) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
