"""The result file of a run: every query's result, with recipe, seed, versions and data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipreid_kit._read_files import exists, parse_json
from clipreid_kit.data import image_fingerprint
from clipreid_kit.metrics import ReidResult
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.reports.json_files import read_object, write_json
from clipreid_kit.reports.run_folder import environment

RESULT_FILE = "comparable.json"
_ONLY = "image_to_image"  # the task of a file that names none


@dataclass(frozen=True, slots=True)
class ResultFile:
    """Content of a result file.

    Attributes:
        recipe: Every setting of the run; empty of a result that no run wrote.
        versions: Versions of the libraries, and the git revision.
        fingerprint: Of the test images, their identities and the camera rule; ``None`` if unknown.
        numbers: Plain numbers by task, as fractions.
        results: Result by task, of the tasks that rank one gallery.
    """

    recipe: dict[str, Any]
    versions: dict[str, Any]
    fingerprint: str | None
    numbers: dict[str, dict[str, Any]]
    results: dict[str, ReidResult]


def write_result_file(folder: Path, evaluation: Evaluation, recipe: Mapping[str, Any]) -> Path:
    """Write ``comparable.json``, which ``clipreid compare`` reads.

    Args:
        folder: Folder to write to.
        evaluation: What was evaluated.
        recipe: Every setting of the run, as JSON can hold it, with its ``seed``.

    Returns:
        The file.
    """
    results = {}
    for task, result in evaluation.results.items():
        if isinstance(result, ReidResult):
            results[task] = parse_json(result.to_json(per_query=True))

    path = folder / RESULT_FILE
    write_json(
        path,
        {
            "recipe": dict(recipe),
            "seed": recipe.get("seed"),
            "versions": environment(),
            "data": {
                "fingerprint": fingerprint_of(evaluation),
                "num_query": len(evaluation.query),
                "num_gallery": len(evaluation.gallery),
            },
            "numbers": evaluation.numbers([]),
            "results": results,
        },
    )
    return path


def read_result_file(path: Path) -> ResultFile:
    """Read a result file, or a result that ``ReidResult.to_json(per_query=True)`` wrote.

    The latter is of the task ``image_to_image``, and has no recipe.

    Raises:
        ValueError: If the file is missing or damaged; the message names it.
    """
    content = read_object(path)
    if "per_query" in content:
        result = _result(path, content)
        return ResultFile({}, {}, None, {_ONLY: result.to_dict()}, {_ONLY: result})

    parts: dict[str, dict[str, Any]] = {}
    for part in ("recipe", "versions", "data", "numbers", "results"):
        found = content.get(part)
        if not isinstance(found, dict):
            raise ValueError(
                f"{path}: this is no result file, as it has no {part}. Pass the {RESULT_FILE} of "
                "a run, or a file of `clipreid evaluate ... --per-query FILE.json`."
            )
        parts[part] = found

    results = {task: _result(path, values) for task, values in parts["results"].items()}
    fingerprint = parts["data"].get("fingerprint")
    return ResultFile(parts["recipe"], parts["versions"], fingerprint, parts["numbers"], results)


def result_file_of(run: Path) -> Path:
    """Return the result file of a run's folder.

    Raises:
        ValueError: If it has none.
    """
    path = run / RESULT_FILE
    if not exists(path):
        raise ValueError(
            f"{run}: the run has no {RESULT_FILE}: it did not end, or an older version wrote it. "
            f"Run `clipreid evaluate {run} --out FOLDER`, and compare FOLDER."
        )
    return path


def fingerprint_of(evaluation: Evaluation) -> str:
    """Fingerprint of what was tested: the images, their identities and cameras, and the rule.

    Paths do not count, so that it is the same wherever the images lie.
    """
    digest = hashlib.sha256()
    for records in (evaluation.query, evaluation.gallery):
        labels = [[record.identity, record.camera] for record in records]
        digest.update(json.dumps(labels).encode())
        digest.update(image_fingerprint(records).encode())

    digest.update(json.dumps([evaluation.camera_rule, evaluation.captions]).encode())
    return digest.hexdigest()


def _result(path: Path, values: object) -> ReidResult:
    try:
        return ReidResult.from_json(json.dumps(values))
    except ValueError as error:
        raise ValueError(f"{path}: the result is damaged ({error})") from None
