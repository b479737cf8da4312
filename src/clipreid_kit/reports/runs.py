"""Read the folders of runs from their JSON files."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipreid_kit._read_files import parse_json, read_bytes
from clipreid_kit.reports.measures import Rates, validation_rates

# keys of a row of metrics.jsonl that are numbers but not terms of the loss
_NOT_TERMS = {
    "epoch",
    "loss",
    "gradient_norm",
    "lr",
    "positive_cosine",
    "negative_cosine",
    "skipped",
    "images_per_second",
    "seconds",
    "peak_memory_mb",
    "score",
    "images",
}


# the folder of a run that was given none: the time of its start
TIME = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d"


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a run.

    Attributes:
        name: The folder's name, with as many parent folders as distinguish it from the other runs.
        path: The folder.
        settings: Every setting of the run.
        rows: One row per epoch.
        prompt_rows: One row per epoch of the prompt phase, if there was one.
        results: Numbers by moment (``before`` and ``after`` training, or ``zero_shot``) and task;
            empty if the run did not end.
    """

    name: str
    path: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    prompt_rows: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]

    @property
    def complete(self) -> bool:
        """Whether the run ended."""
        return bool(self.results)

    @property
    def status(self) -> str:
        """``complete``, or how many epochs are done."""
        if self.complete:
            return "complete"

        epochs = len(self.rows) + len(self.prompt_rows)
        return f"unfinished, {epochs} {'epoch' if epochs == 1 else 'epochs'} done"

    @property
    def note(self) -> str:
        """Why the run was made."""
        return str(self.settings.get("note", ""))

    @property
    def best_epoch(self) -> int | None:
        """The epoch that was tested; ``None`` if nothing was trained."""
        best = [row["epoch"] for row in self.rows if row.get("best")]
        return best[-1] if best else None

    @property
    def terms(self) -> list[str]:
        """Names of the terms of the loss, in the order of the log."""
        names: dict[str, None] = {}
        for row in self.rows:
            for key, value in row.items():
                if type(value) in (int, float) and key not in _NOT_TERMS:
                    names[key] = None
        return list(names)

    def validation(self, row: Mapping[str, Any]) -> Rates:
        """Validation rates of an epoch, of the task that the run's settings name."""
        task = self.settings.get("evaluate", {}).get("task", "image_to_image")
        return validation_rates(row, task)


def _why_no_run(folder: Path) -> str:
    """Say why a path leads to no run."""
    if folder.is_dir():
        return f"The folder {folder} holds no run (a folder with a recipe.json)."
    if folder.exists():
        return f"{folder} is a file; pass the folder of a run, or one that holds runs."
    return f"The folder {folder} is missing."


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """Read every run in the folders and below, ordered by name.

    Raises:
        ValueError: If a folder is missing or holds no run, or if files are damaged; the message
            names a damaged file of every run that has one.
    """
    paths: dict[Path, None] = {}
    for folder in folders:
        found = [path.resolve() for path in _run_folders(folder)]
        if not found:
            raise ValueError(_why_no_run(folder))
        paths |= dict.fromkeys(found)

    runs, damaged = [], []
    for path, name in zip(paths, distinct_names(list(paths)), strict=True):
        try:
            runs.append(_read_run(path, name))
        except ValueError as error:  # noqa: PERF203 (all damaged files are named)
            damaged.append(str(error))

    if damaged:
        files = "1 file is" if len(damaged) == 1 else f"{len(damaged)} files are"
        raise ValueError(
            f"{files} damaged: {'; '.join(damaged)}. Repair them, or leave their runs out."
        )

    return sorted(runs, key=lambda run: natural_key(run.name))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as few as make all names distinct.

    The folder of a seed, or of a time, keeps its parent.

    Example:
        >>> paths = ["/a/v1/long", "/a/v2/long", "/a/zero", "/a/v3/seed0"]
        >>> distinct_names([Path(path) for path in paths])
        ['v1/long', 'v2/long', 'zero', 'v3/seed0']
    """
    below = re.compile(rf"(seed)?[\W_]*\d+|{TIME}")
    depths = [2 if below.fullmatch(path.name) else 1 for path in paths]
    while True:
        names = ["/".join(path.parts[-depth:]) for path, depth in zip(paths, depths, strict=True)]
        if len(set(names)) == len(names):
            return names

        for index, name in enumerate(names):
            if names.count(name) > 1:
                depths[index] += 1


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """A sorting key that puts ``v2`` before ``v10``."""
    key = []
    for part in re.findall(r"\d+|\D+", name):
        number = int(part) if part.isdecimal() else 0
        key.append((not part.isdecimal(), number, part))
    return key


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders.sort()
        if "recipe.json" in files:
            folders.clear()  # folders below belong to this run
            yield Path(path)


def _read_run(path: Path, name: str) -> Run:
    content = _read_object(path / "results.json")
    results: dict[str, Any] = {}
    for moment in ("before", "after"):
        if moment in content:
            results[moment] = _tasks(content[moment], path)

    if "before" in results and "after" not in results:
        results = {"zero_shot": results["before"]}

    return Run(
        name=name,
        path=path,
        settings=_read_object(path / "recipe.json"),
        rows=_read_rows(path / "metrics.jsonl"),
        prompt_rows=_read_rows(path / "prompt" / "metrics.jsonl"),
        results=results,
    )


def _tasks(tasks: object, path: Path) -> dict[str, Any]:
    """The results of a moment, checked to be numbers by task."""
    if isinstance(tasks, dict) and all(isinstance(numbers, dict) for numbers in tasks.values()):
        return tasks
    raise ValueError(f"{path / 'results.json'} (tasks without numbers)")


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}

    content = _parse(read_bytes(path), str(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path} (not a JSON object)")
    return content


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []

    rows = []
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        row = _parse(line, f"{path}, line {number}")
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            raise ValueError(f"{path}, line {number} (not the row of an epoch)")
        rows.append(row)
    return rows


def _parse(content: bytes, source: str) -> Any:  # noqa: ANN401 (any JSON)
    try:
        return parse_json(content.decode("utf-8"))
    except ValueError as error:  # of bytes that are not UTF-8, too
        raise ValueError(f"{source} ({error})") from None
