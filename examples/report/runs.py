"""Read the folders of runs: their JSON files, never the text that a console showed."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MEASURES: dict[str, tuple[str, ...]] = {
    "R1": ("rank_1", "hit_rate_1"),
    "R5": ("rank_5", "hit_rate_5"),
    "R10": ("rank_10", "hit_rate_10"),
    "mAP": ("mean_ap",),
}
_MOMENTS = ("before", "after")
# what a row of metrics.jsonl says besides the terms of the loss
_NO_TERMS = {
    "epoch", "loss", "gradient_norm", "lr", "positive_cosine", "negative_cosine", "skipped", "alarms",
    "images_per_second", "seconds", "peak_memory_mb", "validation", "score", "best", "images",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One folder of the trainer.

    Attributes:
        name: The folder's name, with as many folders above it as tell it from the other runs.
        path: The folder.
        recipe: Every key of the recipe.
        rows: One for each epoch of training.
        prompt_rows: Likewise of a prompt phase, where there was one.
        results: Test figures by moment (``before``, ``after``) and task; ``None`` if the run did not end.
    """

    name: str
    path: Path
    recipe: dict[str, Any]
    rows: list[Row]
    prompt_rows: list[Row]
    results: dict[str, dict[str, Any]] | None

    @property
    def best_epoch(self) -> int | None:
        """The epoch that was tested; ``None`` where nothing was trained."""
        return next((row["epoch"] for row in reversed(self.rows) if row.get("best")), None)

    @property
    def status(self) -> str:
        """Whether the run ended, and how far it came."""
        if self.results is not None:
            return "complete"
        epochs = len(self.rows) + len(self.prompt_rows)
        return f"unfinished, {epochs} {'epoch' if epochs == 1 else 'epochs'} done"

    @property
    def tested(self) -> dict[str, Any]:
        """Test figures by task: of the best checkpoint, or of the model as it came where nothing was trained."""
        return (
            {}
            if self.results is None
            else self.results.get("after", self.results.get("before", {}))
        )

    @property
    def before(self) -> dict[str, Any]:
        """Test figures by task before training; empty where nothing was trained."""
        return (
            {}
            if self.results is None or "after" not in self.results
            else self.results.get("before", {})
        )

    @property
    def terms(self) -> list[str]:
        """Names of the terms of the loss, in the order of the log."""
        numbers = (
            key for row in self.rows for key, value in row.items() if type(value) in (int, float)
        )
        return [key for key in dict.fromkeys(numbers) if key not in _NO_TERMS]

    def validation(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Validation figures of an epoch, of the recipe's task or the only one; empty if it was not validated."""
        return validation_of(row, self.recipe.get("evaluate", {}).get("task", "image_to_image"))


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """Every run in the folders and below, ordered by name.

    Raises:
        ValueError: If a folder is missing or holds no run, or files are damaged; the text names all of these.
    """
    paths: dict[Path, None] = {}
    for folder in folders:
        found = [path.resolve() for path in _walk(folder)] if folder.is_dir() else []
        if not found:
            got = "none there" if folder.is_dir() else "no such folder"
            raise ValueError(
                f"{folder}: expected runs (folders with a recipe.json) in it or below, got {got}."
            )
        paths |= dict.fromkeys(found)
    damaged: list[str] = []
    names = distinct_names(list(paths))
    runs = [_read_run(path, name, damaged) for path, name in zip(paths, names, strict=True)]
    if damaged:
        remedy = "Repair these files, or leave their runs out."
        raise ValueError(
            f"expected whole JSON files, got {len(damaged)} damaged: {'; '.join(damaged)}. {remedy}"
        )
    return sorted(runs, key=lambda run: natural(run.name))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as few as tell each from all others; a folder for a seed has the one above as well.

    Example:
        >>> distinct_names([Path("/a/v1/long"), Path("/a/v2/long"), Path("/a/zero"), Path("/a/v3/seed0")])
        ['v1/long', 'v2/long', 'zero', 'v3/seed0']
    """
    depths = [2 if re.fullmatch(r"(seed)?[\W_]*\d+", path.name) else 1 for path in paths]
    while True:
        names = ["/".join(path.parts[-depth:]) for path, depth in zip(paths, depths, strict=True)]
        if len(set(names)) == len(names):
            return names
        depths = [
            depth + (names.count(name) > 1) for name, depth in zip(names, depths, strict=True)
        ]


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that puts ``v2`` before ``v10``."""
    parts = re.findall(r"\d+|\D+", name)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def validation_of(row: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Validation figures of an epoch for a task, or for the first one there is; means where there are splits."""
    tasks = {
        name: found
        for name, found in (row.get("validation") or {}).items()
        if isinstance(found, dict)
    }
    first = next(iter(tasks.values()), {})
    return means(next((tasks[name] for name in (task, f"{task}.splits") if name in tasks), first))


def means(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of a task; of several splits their mean."""
    return dict(numbers.get("mean", {}) if "splits" in numbers else numbers)


def rate(numbers: Mapping[str, Any], measure: str) -> float | None:
    """A measure of ``MEASURES`` among figures, as a fraction; ``None`` if it was not measured."""
    return next((numbers[key] for key in MEASURES[measure] if numbers.get(key) is not None), None)


def _walk(folder: Path) -> Iterable[Path]:
    for path, folders, files in os.walk(folder):
        folders.sort()
        if "recipe.json" in files:
            folders.clear()  # what is below belongs to this run
            yield Path(path)


def _read_run(path: Path, name: str, damaged: list[str]) -> Run:
    recipe = _read_object(path / "recipe.json", damaged) or {}
    results = _read_object(path / "results.json", damaged)
    if results is not None:  # other keys say what was found in the data
        results = {moment: tasks for moment, tasks in results.items() if moment in _MOMENTS}
    for task, found in [
        (task, found) for tasks in (results or {}).values() for task, found in tasks.items()
    ]:
        if not isinstance(found, dict):
            damaged.append(f"{path / 'results.json'} (no figures under {task!r})")
    rows, prompt_rows = (
        _read_rows(path / log, damaged) for log in ("metrics.jsonl", "prompt/metrics.jsonl")
    )
    return Run(name, path, recipe, rows, prompt_rows, results)


def _read_object(path: Path, damaged: list[str]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also where it is no UTF-8
        damaged.append(f"{path} ({error})")
        return None
    wanted = isinstance(found, dict) and (
        path.name != "results.json"
        or all(isinstance(found.get(moment, {}), dict) for moment in _MOMENTS)
    )
    if not wanted:
        damaged.append(f"{path} (no mapping)")
        return None
    return dict(found)


def _read_rows(path: Path, damaged: list[str]) -> list[Row]:
    rows: list[Row] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except UnicodeDecodeError as error:
        damaged.append(f"{path} ({error})")
        return rows
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            damaged.append(f"{path}, line {number} ({error})")
            continue
        if isinstance(row, dict) and isinstance(row.get("epoch"), int):
            rows.append(row)
        else:
            damaged.append(f"{path}, line {number} (no row of an epoch)")
    return rows
