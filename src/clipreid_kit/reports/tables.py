"""Runs as rows of tables, and rows as CSV and Markdown. Rates are fractions."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from clipreid_kit.reports.measures import COMPARED, Rates, percent, rates_of, spread_of, task_title
from clipreid_kit.reports.runs import Run
from clipreid_kit.reports.versions import runs_by_version

Cell = str | int | float | bool | None
Row = dict[str, Cell]


def evaluation_rows(runs: Sequence[Run]) -> list[Row]:
    """One row per run: rates of the tested model and, as ``before_...``, those before training.

    The splits of ``image_to_image.splits`` are ``split1_...`` and their mean ``final_...``, as in
    the hand pipelines; the columns of other tasks begin with the task.
    """
    table = []
    for run in runs:
        row = {**_about(run), "status": run.status, "best_epoch": run.best_epoch}
        for moment in ("after", "zero_shot", "before"):
            for task, numbers in run.results.get(moment, {}).items():
                row |= _wide_columns(task, numbers, moment)

        table.append({**row, "remarks": run.note, "folder": str(run.path)})
    return table


def split_rows(runs: Sequence[Run]) -> list[Row]:
    """One row per run, task and moment, followed by one for each of its splits."""
    table = []
    for run in runs:
        for moment, tasks in run.results.items():
            for task, numbers in tasks.items():
                about: Row = {"version": run.name, "task": task}
                rates = _columns(rates_of(numbers)) | _columns(spread_of(numbers), "_std")
                table.append({**about, "moment": moment, **rates})

                for number, split in enumerate(numbers.get("splits", []), 1):
                    name = f"{moment}, split {number}"
                    table.append({**about, "moment": name, **_columns(rates_of(split))})
    return table


def version_rows(runs: Sequence[Run]) -> list[Row]:
    """One row per version, task and moment: mean and standard deviation of the complete runs."""
    table: list[Row] = []
    for version, members in runs_by_version(runs).items():
        for moment in ("before", "after", "zero_shot"):
            rates_of_task: dict[str, list[Rates]] = {}
            for run in members:
                for task, numbers in run.results.get(moment, {}).items():
                    rates_of_task.setdefault(task, []).append(rates_of(numbers))

            for task, measured in rates_of_task.items():
                row: Row = {"version": version, "task": task, "num_runs": len(measured)}
                row["moment"] = moment
                for column in COMPARED:
                    mean, spread = mean_and_std([rates[column] for rates in measured])
                    row |= {f"{column}_fraction": mean, f"{column}_std_fraction": spread}
                table.append(row)

    return sorted(table, key=lambda row: str(row["task"]))


def remark_rows(runs: Sequence[Run]) -> list[Row]:
    """One row per version: its stage, and why it was made."""
    return [
        {
            "version": version,
            "stage": members[0].settings.get("stage"),
            "remarks": members[0].note,
        }
        for version, members in runs_by_version(runs).items()
    ]


def training_rows(runs: Sequence[Run]) -> list[Row]:
    """One row per epoch of each run.

    Epochs of a prompt phase come first and have a ``prompt_loss`` only.
    """
    table: list[Row] = []
    for run in runs:
        for entry in run.prompt_rows:
            row: Row = {"version": run.name, "phase": "prompt", "epoch": entry["epoch"]}
            row |= {"prompt_loss": entry.get("loss"), "lr": entry.get("lr"), "is_best": False}
            table.append(row)

        for entry in run.rows:
            row = {"version": run.name, "phase": "main", "epoch": entry["epoch"]}
            row |= {"prompt_loss": None, "loss": entry.get("loss"), "lr": entry.get("lr")}
            row |= {f"loss_{term}": entry[term] for term in run.terms if term in entry}

            rates = run.validation(entry)
            if any(rate is not None for rate in rates.values()):
                row |= _columns(rates, prefix="val_")
            row["is_best"] = entry["epoch"] == run.best_epoch
            table.append(row)
    return table


def mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of the finite values; ``None`` if there are too few.

    Example:
        >>> mean_and_std([0.25, None, 0.75])
        (0.5, 0.3535533905932738)
        >>> mean_and_std([0.25])
        (0.25, None)
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    mean = fmean(finite) if finite else None
    spread = stdev(finite) if len(finite) > 1 else None
    return mean, spread


def csv_text(table: Sequence[Row]) -> str:
    """Format rows as CSV with every column that any row has; ``None`` is an empty cell."""
    file = io.StringIO()
    writer = csv.DictWriter(file, column_names(table), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue()


def column_names(table: Sequence[Row]) -> list[str]:
    """Columns of all rows in one order; a column that few rows have follows its neighbour there."""
    columns: list[str] = []
    for row in table:
        position = 0
        for name in row:
            if name not in columns:
                columns.insert(position, name)
            position = columns.index(name) + 1
    return columns


def tasks_in(table: Sequence[Row]) -> list[str]:
    """Tasks of the rows, each once, in their order."""
    return list(dict.fromkeys(str(row["task"]) for row in table))


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format cells as an aligned Markdown table."""
    lines = [[_escaped(cell) for cell in cells] for cells in (heads, *rows)]

    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])

    texts = []
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        texts.append(f"| {' | '.join(padded)} |")
    return "\n".join(texts)


def runs_markdown(runs: Sequence[Run], longest_remark: int | None = None) -> str:
    """A table of the runs: how far each came, and why it was made.

    Args:
        runs: The runs.
        longest_remark: Characters after which a remark is cut, for a terminal.
    """
    heads = ["version", "stage", "seed", "status", "best epoch", "remarks"]
    rows = []
    for run in runs:
        best = "-" if run.best_epoch is None else str(run.best_epoch)
        about = [str(value) for value in _about(run).values()]
        note = run.note
        if longest_remark is not None and len(note) > longest_remark:
            note = f"{note[: longest_remark - 3].rstrip()}..."
        rows.append([*about, run.status, best, note])
    return f"# Runs\n\n{markdown_table(heads, rows)}\n"


def rates_markdown(table: Sequence[Row], about: Sequence[str], spread: str) -> str:
    """Rates of rows in percent with their spread: a table per task.

    Args:
        table: Rows with a task, columns ``about``, and rates.
        about: Columns to show before the rates.
        spread: Over what the standard deviation is.
    """
    parts = []
    for task in tasks_in(table):
        shown = [row for row in table if row["task"] == task]
        rows = []
        for row in shown:
            cells = [str(row[name]) for name in about]
            rows.append(cells + [_rate_cell(row, column) for column in COMPARED])

        has_spread = any(row.get("R1_std_fraction") is not None for row in shown)
        unit = f"%; mean ± standard deviation over {spread}" if has_spread else "%"
        heads = [name.removeprefix("num_") for name in about]
        parts += [f"## {task_title(task)} ({unit})", markdown_table([*heads, *COMPARED], rows)]

    return "\n\n".join(parts) + "\n"


def training_markdown(table: Sequence[Row]) -> str:
    """Rows of :func:`training_rows`, validation in percent and the best epoch marked."""
    columns = [name for name in column_names(table) if name != "is_best"]
    heads = [name.replace("_fraction", " (%)").replace("_", " ") for name in columns]

    rows = []
    for row in table:
        cells = [_training_cell(name, row.get(name)) for name in columns]
        rows.append([*cells, "best" if row["is_best"] else ""])
    return f"# Training\n\n{markdown_table([*heads, ''], rows)}\n"


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", r"\|")


def _about(run: Run) -> Row:
    stage = str(run.settings.get("stage", ""))
    return {"version": run.name, "stage": stage, "seed": run.settings.get("seed")}


def _columns(rates: Rates, suffix: str = "", *, prefix: str = "") -> Row:
    return {f"{prefix}{column}{suffix}_fraction": rates[column] for column in COMPARED}


def _wide_columns(task: str, numbers: Mapping[str, Any], moment: str) -> Row:
    """Columns of a task and moment in ``evaluation.csv``."""
    name, _, protocol = task.partition(".")
    prefix = protocol if name == "image_to_image" else task
    when = "before_" if moment == "before" else ""

    if "splits" not in numbers:
        return _columns(rates_of(numbers), prefix=f"{when}{prefix or 'query_gallery'}_")

    prefix = "" if prefix == "splits" else f"{prefix}_"
    row: Row = {}
    if moment != "before":
        for number, split in enumerate(numbers["splits"], 1):
            row |= _columns(rates_of(split), prefix=f"{prefix}split{number}_")

    row |= _columns(rates_of(numbers), prefix=f"{when}{prefix}final_")
    row |= _columns(spread_of(numbers), "_std", prefix=f"{when}{prefix}final_")
    return row


def _rate_cell(row: Row, column: str) -> str:
    rate, spread = row[f"{column}_fraction"], row.get(f"{column}_std_fraction")
    return percent(rate, spread)  # type: ignore[arg-type]


def _training_cell(name: str, value: Cell) -> str:
    if name.endswith("_fraction"):
        return percent(value) if isinstance(value, int | float) else ""
    if isinstance(value, float):
        return f"{value:.2e}" if name == "lr" else f"{value:.4f}"
    return "" if value is None else str(value)
