"""Runs as rows of tables: evaluation, training, and several seeds as one. Rates are fractions, and columns say so."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from examples.report.runs import MEASURES, Run, means, rate

Cell = str | int | float | bool | None


def evaluation_rows(runs: Sequence[Run]) -> list[dict[str, Cell]]:
    """One row a run. Figures are those of the best checkpoint; columns with ``before_`` are from before training.

    The splits of ``image_to_image.splits`` are ``split1_...`` and their mean ``final_...``, as is usual for the hand
    pipelines; those of other tasks have the task in front.
    """
    table = []
    for run in runs:
        row = about(run) | {"status": run.status, "best_epoch": run.best_epoch}
        for moment, tasks in (("", run.tested), ("before_", run.before)):
            for task, numbers in tasks.items():
                row |= _columns(task, numbers, moment)
        table.append(row | {"remarks": str(run.recipe.get("note", "")), "folder": str(run.path)})
    return table


def training_rows(runs: Sequence[Run]) -> list[dict[str, Cell]]:
    """One row an epoch of each run; the epochs of a prompt phase come first and have a ``prompt_loss`` alone."""
    table: list[dict[str, Cell]] = []
    for run in runs:
        for entry in run.prompt_rows:
            phase: dict[str, Cell] = {
                "phase": "prompt",
                "epoch": entry["epoch"],
                "prompt_loss": entry.get("loss"),
            }
            table.append({"version": run.name, **phase, "lr": entry.get("lr"), "is_best": False})
        for entry in run.rows:
            row: dict[str, Cell] = {"version": run.name, "phase": "main", "epoch": entry["epoch"]}
            row |= {"prompt_loss": None, "loss": entry.get("loss"), "lr": entry.get("lr")}
            row |= {f"loss_{term}": entry[term] for term in run.terms if term in entry}
            found = run.validation(entry)
            row |= {
                f"val_{measure}_fraction": rate(found, measure) for measure in MEASURES if found
            }
            table.append(row | {"is_best": entry["epoch"] == run.best_epoch})
    return table


def groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs whose recipes differ in the seed alone (and in where the log goes), by what their names share.

    Runs may go on from one run, or each seed from its own: then a number after the word seed in ``init_from``, or the
    run's own at its end, is taken for the seed.
    """
    equal: dict[str, list[Run]] = {}
    for run in runs:
        equal.setdefault(_key(run, str(run.recipe.get("init_from"))), []).append(run)
    alike: dict[str, list[Run]] = {}
    for key, members in equal.items():
        common = (
            len({run.recipe.get("seed") for run in members}) > 1
        )  # they go on from one and the same
        for run in members:
            source = re.sub(
                rf"(?<=[\W_]){run.recipe.get('seed')}$", "seed", str(run.recipe.get("init_from"))
            )
            own = _key(run, re.sub(r"seed[\W_]*\d+", "seed", source))
            alike.setdefault(key if common else own, []).append(run)
    named = [(_shared_name([run.name for run in members]), members) for members in alike.values()]
    once = [name for name, _ in named]
    return {
        name if once.count(name) == 1 else _all_names(members): members for name, members in named
    }


def _key(run: Run, source: str) -> str:
    recipe = {key: value for key, value in run.recipe.items() if key not in ("seed", "track")}
    return json.dumps(recipe | {"init_from": source}, sort_keys=True)


def group_rows(runs: Sequence[Run]) -> list[dict[str, Cell]]:
    """One row a recipe and task: mean over the complete seeds, and their sample standard deviation if several are."""
    table: list[dict[str, Cell]] = []
    for name, members in groups(runs).items():
        for moment in ("before", "after"):
            tasks = [run.before if moment == "before" else run.tested for run in members]
            for task in dict.fromkeys(task for found in tasks for task in found):
                measured = [means(found[task]) for found in tasks if task in found]
                row: dict[str, Cell] = {"version": name, "task": task, "num_runs": len(measured)}
                row["moment"] = moment if any(run.before for run in members) else "zero_shot"
                for measure in MEASURES:
                    mean, spread = mean_and_std([rate(numbers, measure) for numbers in measured])
                    row |= {f"{measure}_fraction": mean, f"{measure}_std_fraction": spread}
                table.append(row)
    return sorted(table, key=lambda row: str(row["task"]))


def mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (``None`` for a single value) of what was measured."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return (fmean(known) if known else None), (stdev(known) if len(known) > 1 else None)


def about(run: Run) -> dict[str, Cell]:
    """What tells a run from the others."""
    return {
        "version": run.name,
        "stage": str(run.recipe.get("stage", "")),
        "seed": run.recipe.get("seed"),
    }


def ordered(table: Sequence[Mapping[str, Cell]]) -> list[str]:
    """Columns of all rows; those that only some rows have stand where these rows have them."""
    columns: list[str] = []
    for row in table:
        place = 0
        for key in row:
            if key in columns:
                place = columns.index(key) + 1
            else:
                columns.insert(place, key)
                place += 1
    return columns


def csv_text(table: Sequence[Mapping[str, Cell]]) -> str:
    """A table as CSV, with every column that a row has; nothing is an empty cell."""
    columns = ordered(table)
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "" if value is None else value for key, value in row.items()} for row in table
    )
    return file.getvalue()


def _columns(task: str, numbers: Mapping[str, Any], moment: str) -> dict[str, Cell]:
    name, _, kind = task.partition(".")
    if "splits" not in numbers:
        prefix = (
            "query_gallery"
            if task == "image_to_image"
            else kind
            if name == "image_to_image"
            else task
        )
        return {f"{moment}{prefix}_{m}_fraction": rate(numbers, m) for m in MEASURES}
    prefix = (
        "" if task == "image_to_image.splits" else f"{kind if name == 'image_to_image' else task}_"
    )
    row: dict[str, Cell] = {}
    if not moment:
        for number, split in enumerate(numbers["splits"], 1):
            row |= {f"{prefix}split{number}_{m}_fraction": rate(split, m) for m in MEASURES}
    row |= {f"{moment}{prefix}final_{m}_fraction": rate(means(numbers), m) for m in MEASURES}
    return row | {
        f"{moment}{prefix}final_{m}_std_fraction": rate(numbers.get("std") or {}, m)
        for m in MEASURES
    }


def _shared_name(names: Sequence[str]) -> str:
    """What names begin with in common, without the word seed at its end.

    Example:
        >>> _shared_name(["v2-seed0", "v2-seed1"]), _shared_name(["v1/0", "v1/10"]), _shared_name(["v3-seed0"])
        ('v2', 'v1', 'v3-seed0')
    """
    if len(names) == 1:
        return names[0]
    parts = [re.findall(r"\d+|[^\W\d_]+|[\W_]+", name) for name in names]
    shared = ""
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared += column[0]
    return re.sub(r"(^|[\W_]+)(seed)?[\W_]*$", "", shared) or ", ".join(names)


def _all_names(members: Sequence[Run]) -> str:
    return ", ".join(run.name for run in members)
