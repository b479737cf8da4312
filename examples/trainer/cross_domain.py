"""Evaluate the runs of several training sets on several test sets: the cross-domain matrix."""

import contextlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipreid_kit.reports import read_object
from examples.settings.data import Synthetic
from examples.settings.images import Images
from examples.settings.recipe import recipe_of
from examples.trainer.evaluate import evaluate_run

Matrix = dict[str, dict[str, list[dict[str, Any]]]]


def evaluate_matrix(trained: Mapping[str, Path], tests: Mapping[str, Path], out: Path) -> Matrix:
    """Evaluate every run on every test set, as ``clipreid evaluate`` does.

    Args:
        trained: By name, a run, or a folder of runs that differ in their seed.
        tests: By name, a data set in the form that the runs read (``data.root``), or a run whose
            data it is.
        out: Folder of the evaluations, ``<train>/<run>/<test>``; those that are complete, of the
            same run and data, are read and not repeated.

    Returns:
        Numbers by task of each run, by training set and test set.

    Raises:
        ValueError: If a folder holds no run, or a run cannot be evaluated on a data set.
    """
    matrix: Matrix = {}
    for name, folder in trained.items():
        runs = _runs_in(folder)
        matrix[name] = {}
        for test, path in tests.items():
            results = [_evaluated(run, path, out / name / run.name / test) for run in runs]
            matrix[name][test] = results
    return matrix


def _runs_in(folder: Path) -> list[Path]:
    """The run that a folder is, or the runs directly in it."""
    if (folder / "recipe.json").is_file():
        return [folder]

    runs = sorted(file.parent for file in folder.glob("*/recipe.json"))
    if not runs:
        raise ValueError(
            f"{folder}: this is neither a run (a folder with a recipe.json) nor a folder of runs."
        )
    return runs


def _evaluated(run: Path, test: Path, out: Path) -> dict[str, Any]:
    """Numbers by task of a run on a data set; evaluated now unless that was done before."""
    wanted = {"run": str(run.resolve()), "test": str(test.resolve())}
    done = out / "cross_domain.json"
    if not done.is_file():
        _evaluate(run, test, out)
        done.write_text(json.dumps(wanted), encoding="utf-8")
    elif read_object(done) != wanted:
        raise ValueError(
            f"{out}: this folder holds the evaluation of another run or test set. Move it away."
        )

    results = read_object(out / "results.json")
    tasks: dict[str, Any] = results.get("after") or results["before"]
    return tasks


def _evaluate(run: Path, test: Path, out: Path) -> None:
    """Evaluate a run on a data set into a new folder; what an interrupted call left is removed."""
    if out.is_dir():
        shutil.rmtree(out)

    changes, data = _test_data(test)
    if recipe_of(read_object(run / "recipe.json")).evaluate.occlusion:
        changes = [*changes, "evaluate.occlusion=[]"]  # the matrix shows the clean results

    print(f"{run} on {test}", file=sys.stderr, flush=True)
    with contextlib.redirect_stdout(sys.stderr):  # the standard output is for the table
        evaluate_run(run, "best", changes, data=data, out=out)


def _test_data(test: Path) -> tuple[list[str], str]:
    """Changes of a recipe's ``data``, and its root: those of a run, or the data set alone."""
    if not (test / "recipe.json").is_file():
        return [], str(test)

    data = recipe_of(read_object(test / "recipe.json")).data
    if isinstance(data, Synthetic):
        return ["data.source=table"], str(_generated_table(test))
    if data.root is None:
        raise ValueError(
            f"{test}: the recipe of this run names no images (data.root). Pass the images instead."
        )

    # The options of this source; those of loading images are the evaluated run's own.
    options = data.model_dump(mode="json", exclude=set(Images.model_fields) | {"root", "source"})
    changes = [f"data.source={data.source}"]
    changes += [f"data.{key}={json.dumps(value)}" for key, value in options.items()]
    return changes, data.root


def _generated_table(run: Path) -> Path:
    """The table of the images that a run generated."""
    table = run / "data" / "records.csv"
    if not table.is_file():
        raise ValueError(
            f"{run}: this run has no single table of generated images: they have several looks, or "
            "were deleted. Pass the images instead."
        )
    return table
