"""Compare runs by paired tests, with the seeds of a recipe as runs of one model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipreid_kit._read_files import exists, is_folder
from clipreid_kit.metrics import Comparison, ReidResult, compare_results
from clipreid_kit.reports.result_file import ResultFile, read_result_file, result_file_of
from clipreid_kit.reports.runs import Run, distinct_names, find_runs
from clipreid_kit.reports.versions import runs_by_version


@dataclass(frozen=True, slots=True)
class Model:
    """The runs of one recipe, which differ in their seed alone.

    Attributes:
        name: The name that the runs share.
        runs: The runs.
        files: Result file of each run.
    """

    name: str
    runs: list[Run]
    files: list[ResultFile]


def compare_runs(
    paths: Iterable[Path],
    *,
    task: str = "image_to_image",
    measures: Sequence[str] = ("rank_1", "mean_ap", "mean_inp"),
    baseline: str | None = None,
    level: float = 0.05,
    num_samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare runs by :func:`~clipreid_kit.metrics.compare_results`.

    Args:
        paths: Folders of runs, folders that hold runs at any depth, or result files.
        task: Task to compare, of those that rank one gallery.
        measures: As for :func:`~clipreid_kit.metrics.compare_results`, like all that follow.
        baseline: Name of the model that the others are compared with; ``None`` for all pairs.
        level: Significance level.
        num_samples: Number of permutations and of bootstrap samples.
        seed: Seed of a separate generator.

    Raises:
        ValueError: If a path holds no run or result, a run has no result of the task, all runs are
            seeds of one recipe, or they were tested on different images.
    """
    models = read_models(paths)
    if len(models) < 2:
        raise ValueError(
            f"compare: these are runs of one recipe only ({models[0].name}); pass those of another "
            "recipe as well."
        )

    _check_same_images(models)
    results = {}
    for model in models:
        results[model.name] = [
            _result_of(run, file, task) for run, file in zip(model.runs, model.files, strict=True)
        ]
    return compare_results(
        results,
        measures=measures,
        baseline=baseline,
        level=level,
        num_samples=num_samples,
        seed=seed,
    )


def read_models(paths: Iterable[Path]) -> list[Model]:
    """Read result files of runs, and group runs that differ in their seed alone.

    Args:
        paths: Folders of runs, folders that hold runs at any depth, or result files.

    Raises:
        ValueError: If a path holds no run or result, or a file is missing or damaged.
    """
    paths = list(paths)
    folders = [path for path in paths if is_folder(path)]
    singles = [path for path in paths if path not in folders]

    for path in singles:
        if not exists(path):
            raise ValueError(f"compare: there is no {path}. Pass folders of runs, or result files.")

    runs: list[Run] = []
    read: dict[str, ResultFile] = {}
    if folders:
        runs += find_runs(folders)
    for run in runs:
        read[run.name] = read_result_file(result_file_of(run.path))

    for name, path in _named_files(singles).items():
        if name in read:
            raise ValueError(f"compare: {name} names both a run and a file; rename the file.")
        file = read_result_file(path)
        # A result without a recipe is a model of its own.
        settings = file.recipe or {"file": str(path)}
        runs.append(Run(name, path, settings, [], [], {}))
        read[name] = file

    if not runs:
        raise ValueError("compare: there is nothing to compare; pass folders of runs.")

    models = []
    for name, members in runs_by_version(runs).items():
        models.append(Model(name, members, [read[run.name] for run in members]))
    return models


def _named_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Name result files by as much of their paths as tells them apart."""
    if not paths:
        return {}
    names = distinct_names([path.resolve().with_suffix("") for path in paths])
    return dict(zip(names, paths, strict=True))


def _check_same_images(models: Sequence[Model]) -> None:
    """Raise ValueError if runs are known to have been tested on different images."""
    known: dict[str, str] = {}
    for model in models:
        for run, file in zip(model.runs, model.files, strict=True):
            if file.fingerprint is not None:
                known.setdefault(file.fingerprint, run.name)

    if len(known) > 1:
        first, second, *_ = known.values()
        raise ValueError(
            f"compare: {first} and {second} were tested on different images, captions or rules, so "
            "their queries do not pair. Evaluate both on the same ones. (A recipe that generates "
            "its images generates others for each seed.)"
        )


def _result_of(run: Run, file: ResultFile, task: str) -> ReidResult:
    if task not in file.results:
        known = ", ".join(file.results) or "none"
        raise ValueError(
            f"{run.path}: there is no result of {task} by query; the tasks that have one are: "
            f"{known}."
        )
    return file.results[task]
