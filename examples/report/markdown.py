"""The tables of runs for people: Markdown, rates in percent with two decimals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from examples.report.runs import MEASURES, Run, means, rate
from examples.report.tables import Cell, about, ordered


def runs_markdown(runs: Sequence[Run]) -> str:
    """What each run is, and whether it ended."""
    heads = ["version", "stage", "seed", "status", "best epoch", "remarks"]
    rows = []
    for run in runs:
        best = "-" if run.best_epoch is None else str(run.best_epoch)
        rows.append(
            [*map(str, about(run).values()), run.status, best, str(run.recipe.get("note", ""))]
        )
    return f"# Runs\n\n{markdown(heads, rows)}\n"


def evaluation_markdown(runs: Sequence[Run]) -> str:
    """What each run is and reached, in percent: one table a task, the splits below it."""
    parts = [runs_markdown(runs).rstrip()]
    for task in dict.fromkeys(task for run in runs for task in run.tested):
        shown = [run for run in runs if task in run.tested]
        compared = any(task in run.before for run in shown)
        heads = ["version", *(["R1 before", "mAP before"] if compared else []), *MEASURES]
        rows = []
        for run in shown:
            before = means(run.before.get(task, {}))
            first = (
                [percent(rate(before, measure)) for measure in ("R1", "mAP")] if compared else []
            )
            found, std = means(run.tested[task]), run.tested[task].get("std") or {}
            rows.append(
                [run.name, *first, *(percent(rate(found, m), rate(std, m)) for m in MEASURES)]
            )
        most = max(len(run.tested[task].get("splits", [])) for run in shown)
        spread = f"; mean ± standard deviation over {most} splits" if most else ""
        parts += [f"## {title(task)} (%{spread})", markdown(heads, rows)]
        if most:
            splits = [[run.name, m, *(percent(rate(one, m)) for one in run.tested[task].get("splits", []))]
                      for run in shown for m in MEASURES]  # fmt: skip
            parts += [
                "Each split:",
                markdown(["version", "", *map(str, range(1, most + 1))], splits),
            ]
    return "\n\n".join(parts) + "\n"


def group_markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The rows of :func:`group_rows` in percent, one table a task; mean ± standard deviation over seeds."""
    parts = ["# Versions"]
    for task in dict.fromkeys(row["task"] for row in table):
        rows = [[row["version"], row["moment"], str(row["num_runs"]),
                 *(percent(row[f"{m}_fraction"], row[f"{m}_std_fraction"]) for m in MEASURES)]
                for row in table if row["task"] == task]  # fmt: skip
        parts += [f"## {title(task)} (%; mean ± standard deviation over runs with other seeds)",
                  markdown(["version", "moment", "runs", *MEASURES], rows)]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def training_markdown(table: Sequence[Mapping[str, Cell]]) -> str:
    """The rows of :func:`training_rows`: losses as they are, validation in percent, the best epoch marked."""
    columns = [column for column in ordered(table) if column != "is_best"]
    shown = [column.replace("_fraction", " (%)").replace("_", " ") for column in columns]
    rows = [
        [*(_cell(column, row.get(column)) for column in columns), "best" if row["is_best"] else ""]
        for row in table
    ]
    return "# Training\n\n" + markdown([*shown, ""], rows) + "\n"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand below each other; shorter rows end early."""
    full = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in (heads, *rows)]
    full = [row + [""] * (len(heads) - len(row)) for row in full]
    widths = [max(3, *(len(row[i]) for row in full)) for i in range(len(heads))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in full
    ]
    return "\n".join(
        [lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]]
    )


def percent(value: float | None, spread: float | None = None) -> str:
    """A fraction in percent with two decimals, with its spread if there is one."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def title(task: str) -> str:
    """A task as a heading."""
    name, _, kind = task.partition(".")
    kind = kind or ("query and gallery" if name == "image_to_image" else "")
    return name.replace("_", " ").capitalize() + (f", {kind.replace('_', ' ')}" if kind else "")


def _cell(column: str, value: Cell) -> str:
    if column.endswith("_fraction"):
        return percent(value) if isinstance(value, int | float) else ""
    if isinstance(value, float):
        return f"{value:.2e}" if column == "lr" else f"{value:.4f}"
    return "" if value is None else str(value)
