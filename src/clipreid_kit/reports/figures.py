"""Figures of several runs: training, validation by epoch, and rates of all versions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipreid_kit.reports.measures import TITLES, best_epoch_label, percent, task_title
from clipreid_kit.reports.occlusion import occlusion_curves
from clipreid_kit.reports.runs import Run, natural_key
from clipreid_kit.reports.tables import Row, tasks_in
from clipreid_kit.reports.versions import runs_by_version
from clipreid_kit.viz import occlusion_figure, save_figure, training_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DRAWN = ("R1", "mAP")
_BLUE, _ORANGE = "#005fb0", "#ffb070"
_TEXT, _MUTED, _GRID = "#1b2430", "#5b6675", "#e3e7ec"


def write_figures(out: Path, runs: Sequence[Run], table: Sequence[Row]) -> list[Path]:
    """Write every figure as PNG, and return their paths.

    - ``training/<run>.png``: the terms of the loss and the validation of one run
    - ``rank_1_by_epoch.png``, ``map_by_epoch.png``: the validation of all versions
    - ``<task>_rank_1.png``, ``<task>_map.png``: the test rates of all versions
    - ``map_by_occlusion_<kind>.png``: mAP of all versions by the occluded share

    Args:
        out: Folder to write to.
        runs: The runs.
        table: Their rows from :func:`~clipreid_kit.reports.tables.version_rows`.
    """
    figures: dict[str, Figure] = {}
    for run in runs:
        name = f"training/{run.name.replace('/', '__')}"
        if run.rows:
            figures[name] = _training(run)
        if run.prompt_rows:
            figures[f"{name}_prompt"] = _prompt_training(run)

    for measure in _DRAWN:
        name = TITLES[measure].lower().replace("-", "_")
        curves = _validation_curves(runs, measure)
        if curves:
            figures[f"{name}_by_epoch"] = _validation_by_epoch(curves, measure)

        for task in tasks_in(table):
            rows = [row for row in table if row["task"] == task]
            figures[f"{task.replace('.', '_')}_{name}"] = _bars(rows, task, measure)

    for kind, shares in _occlusion_by_version(table).items():
        figures[f"map_by_occlusion_{kind.replace(' ', '_')}"] = occlusion_figure(shares)

    paths = []
    for name, figure in figures.items():
        path = out / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path)
        paths.append(path)
    return paths


def _occlusion_by_version(table: Sequence[Row]) -> dict[str, dict[str, dict[float, float]]]:
    """Mean mAP by kind of occluder, version and occluded share."""
    tested: dict[str, dict[str, dict[str, object]]] = {}
    for row in table:
        if row["moment"] != "before":
            tasks = tested.setdefault(str(row["version"]), {})
            tasks[str(row["task"])] = {"mean_ap": row["mAP_fraction"]}

    kinds: dict[str, dict[str, dict[float, float]]] = {}
    for version, tasks in tested.items():
        for kind, curve in occlusion_curves(tasks).items():
            kinds.setdefault(kind, {})[version] = curve
    return kinds


def _training(run: Run) -> "Figure":
    """Loss, its terms, and validation of one run."""
    rows = [{**row, **run.validation(row)} for row in run.rows]
    validated = [measure for measure in _DRAWN if any(row[measure] is not None for row in rows)]

    heading, losses = f"{run.name}: loss", {"loss": "loss"}
    if len(run.terms) > 1:
        heading += " and its terms"
        losses |= {term: term.replace("_", " ") for term in run.terms}

    return training_figure(
        rows,
        loss_keys=losses,
        metric_keys={measure: TITLES[measure] for measure in validated},
        best_epoch=run.best_epoch,
        best_label=best_epoch_label(run.rows),
        titles=(heading, "Validation (%)"),
        size=(10.0 if validated else 5.6, 3.6),
    )


def _prompt_training(run: Run) -> "Figure":
    titles = (f"{run.name}: prompt loss", "")
    return training_figure(run.prompt_rows, metric_keys=(), titles=titles, size=(5.0, 3.4))


# a version's runs, each with its validated epochs and their rates in percent
_Curves = list[tuple[Run, dict[int, float]]]


def _validation_curves(runs: Sequence[Run], measure: str) -> dict[str, _Curves]:
    versions: dict[str, _Curves] = {}
    for version, members in runs_by_version(runs).items():
        for run in members:
            rates = {row["epoch"]: run.validation(row)[measure] for row in run.rows}
            curve = {epoch: 100 * rate for epoch, rate in rates.items() if rate is not None}
            if curve:
                versions.setdefault(version, []).append((run, curve))

    return {version: versions[version] for version in sorted(versions, key=natural_key)}


def _validation_by_epoch(versions: Mapping[str, _Curves], measure: str) -> "Figure":
    """A panel per version, with a line per run; all panels have one scale."""
    columns = min(3, len(versions))
    lines = math.ceil(len(versions) / columns)
    size = (max(5.0, 3.2 * columns), 2.3 * lines + 0.5)
    heading = f"{TITLES[measure]} on validation by epoch (%)"
    figure, panels = _blank_figure(size, heading, rows=lines, columns=columns)

    last_epoch = max(run.rows[-1]["epoch"] for curves in versions.values() for run, _ in curves)
    for axes, (version, curves) in zip(panels, versions.items(), strict=False):
        axes.set_xlim(0, last_epoch * 1.02 + 0.5)
        axes.set_ylim(0, 100)
        _draw_version(axes, version, curves)

    for axes in panels[len(versions) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(versions) - columns) : len(versions)]:
        axes.set_xlabel("epoch", fontsize=9, color=_MUTED)
    return figure


def _draw_version(axes: "Axes", version: str, curves: _Curves) -> None:
    from matplotlib.ticker import MaxNLocator

    title = _panel_title(version, curves)
    axes.set_title(title, loc="left", fontsize=9, color=_TEXT, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(axis="y", color=_GRID, linewidth=0.9)

    best: list[tuple[int, float]] = []
    opacity = 0.55 if len(curves) > 1 else 1.0
    for run, curve in curves:
        axes.plot(list(curve), list(curve.values()), color=_BLUE, linewidth=1.4, alpha=opacity)

        if run.best_epoch is not None and run.best_epoch in curve:
            best.append((run.best_epoch, curve[run.best_epoch]))
        elif len(curve) == 1:  # a line of one point is invisible
            axes.plot(list(curve), list(curve.values()), "o", color=_BLUE, markersize=5)

    for point in best:
        axes.plot(*point, "o", color=_BLUE, markersize=5, clip_on=False)

    # a rising curve leaves room at the bottom right
    note = {"ha": "right", "fontsize": 8.5, "color": _MUTED}
    axes.text(0.97, 0.06, _best_text(best), note, transform=axes.transAxes)


def _panel_title(version: str, curves: _Curves) -> str:
    unfinished = sum(not run.complete for run, _ in curves)
    if len(curves) == 1:
        return f"{version}, unfinished" if unfinished else version

    title = f"{version}, {len(curves)} runs"
    return f"{title}, {unfinished} unfinished" if unfinished else title


def _best_text(best: Sequence[tuple[int, float]]) -> str:
    if not best:
        return ""
    if len(best) == 1:
        epoch, rate = best[0]
        return f"best: {rate:.1f} at epoch {epoch}"

    rates = [rate for _, rate in best]
    return f"best: {min(rates):.1f} to {max(rates):.1f}"


def _bars(rows: Sequence[Row], task: str, measure: str) -> "Figure":
    """The versions from best to worst, with their spread and a mark for the rate before."""
    before = _rates(rows, measure, moments=("before",))
    after = _rates(rows, measure, moments=("after", "zero_shot"))
    # equal rates in the order of their versions
    versions = sorted(after, key=lambda version: (after[version], natural_key(version)[::-1]))
    shown = [_row_of(rows, version) for version in versions]

    heading = f"{TITLES[measure]} on the test set (%)\n{task_title(task)}"
    figure, (axes,) = _blank_figure((7.2, 0.34 * len(shown) + 1.3), heading)
    for height, (version, row) in enumerate(zip(versions, shown, strict=True)):
        _draw_bar(axes, height, row, measure, before.get(version))

    axes.set_yticks(range(len(shown)), [_bar_name(row) for row in shown], parse_math=False)
    axes.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlim(0, 118)  # room for the values
    axes.spines["bottom"].set_bounds(0, 100)
    if before:
        axes.set_xlabel("the orange mark: before training", fontsize=8.5, color=_MUTED)
    return figure


def _rates(rows: Sequence[Row], measure: str, moments: Sequence[str]) -> dict[str, float]:
    """Rates of versions at some moments."""
    rates = {}
    for row in rows:
        rate = row[f"{measure}_fraction"]
        if row["moment"] in moments and isinstance(rate, float):
            rates[str(row["version"])] = rate
    return rates


def _row_of(rows: Sequence[Row], version: str) -> Row:
    """The row of a version's tested model."""
    return next(row for row in rows if row["version"] == version and row["moment"] != "before")


def _bar_name(row: Row) -> str:
    version = str(row["version"])
    return version if row["num_runs"] == 1 else f"{version} ({row['num_runs']} runs)"


def _draw_bar(axes: "Axes", height: int, row: Row, measure: str, rate_before: float | None) -> None:
    rate, spread = row[f"{measure}_fraction"], row[f"{measure}_std_fraction"]
    length = 100 * rate if isinstance(rate, float) else 0.0
    error = 100 * spread if isinstance(spread, float) else None

    colour = _MUTED if row["moment"] == "zero_shot" else _BLUE
    drawn = axes.barh(height, length, height=0.66, xerr=error, color=colour, ecolor=_TEXT)
    text = percent(rate, spread)  # type: ignore[arg-type]
    axes.bar_label(drawn, [text], padding=4, fontsize=8.5, color=_TEXT)

    if rate_before is not None:
        mark = 100 * rate_before
        axes.plot([mark, mark], [height - 0.33, height + 0.33], color=_ORANGE, linewidth=2)


def _blank_figure(
    size: tuple[float, float], heading: str, *, rows: int = 1, columns: int = 1
) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, x=0.01, ha="left", fontsize=10.5, color=_TEXT)

    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_MUTED)
        axes.tick_params(colors=_MUTED, labelsize=8.5, length=0)
        axes.set_axisbelow(True)
    return figure, panels
