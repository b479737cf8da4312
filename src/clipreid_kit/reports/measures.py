"""Measures of a task: read them from results, and name them in files and for people."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Rates = dict[str, float | None]

# column name -> keys in the results of re-identification and of retrieval between modalities
_RESULT_KEYS = {
    "R1": ("rank_1", "hit_rate_1"),
    "R5": ("rank_5", "hit_rate_5"),
    "R10": ("rank_10", "hit_rate_10"),
    "mAP": ("mean_ap",),
    "mINP": ("mean_inp",),
}
TITLES = {"R1": "Rank-1", "R5": "Rank-5", "R10": "Rank-10", "mAP": "mAP", "mINP": "mINP"}
# columns of the tables that compare runs
COMPARED = ("R1", "R5", "R10", "mAP")


def rates_of(numbers: Mapping[str, Any]) -> Rates:
    """Rates of a task as fractions, by column name; ``None`` for those that were not measured.

    The rates of a task with several splits are their means.

    Args:
        numbers: ``to_dict()`` of a result.

    Example:
        >>> rates_of({"rank_1": 0.5, "mean_ap": 0.25})["R1"]
        0.5
        >>> rates_of({"splits": [{}, {}], "mean": {"hit_rate_1": 0.75}})["R1"]
        0.75
    """
    if "splits" in numbers:
        numbers = numbers.get("mean", {})

    rates: Rates = {}
    for column, keys in _RESULT_KEYS.items():
        measured = [numbers[key] for key in keys if numbers.get(key) is not None]
        rates[column] = measured[0] if measured else None

    return rates


def spread_of(numbers: Mapping[str, Any]) -> Rates:
    """Standard deviation of each rate over the splits; ``None`` without several splits."""
    return rates_of(numbers.get("std") or {})


def validation_rates(row: Mapping[str, Any], task: str) -> Rates:
    """Rates of an epoch's validation, all ``None`` if the epoch was not validated.

    Args:
        row: The epoch, a row of ``metrics.jsonl``.
        task: Task to read; the first one of the row if it has no such task.
    """
    tasks = {
        name: numbers
        for name, numbers in (row.get("validation") or {}).items()
        if isinstance(numbers, dict)
    }
    for name in (task, f"{task}.splits", *tasks):
        if name in tasks:
            return rates_of(tasks[name])

    return rates_of({})


def best_epoch_label(rows: Sequence[Mapping[str, Any]]) -> str:
    """Label of the epoch that was tested: the best one only if epochs were validated.

    Example:
        >>> best_epoch_label([{"epoch": 1, "validation": {}}]), best_epoch_label([{"epoch": 1}])
        ('best: epoch {epoch}', 'last epoch')
    """
    validated = any("validation" in row for row in rows)
    return "best: epoch {epoch}" if validated else "last epoch"


def percent(rate: float | None, spread: float | None = None) -> str:
    """Format a fraction in percent with two decimals, and its spread if there is one.

    Example:
        >>> percent(0.5), percent(0.5, 0.012), percent(None)
        ('50.00', '50.00 ± 1.20', '-')
    """
    if rate is None or not math.isfinite(rate):
        return "-"

    text = f"{100 * rate:.2f}"
    return text if spread is None else f"{text} ± {100 * spread:.2f}"


def task_label(task: str) -> str:
    """Name of a task inside a sentence or a line.

    Example:
        >>> task_label("image_to_image.leave_one_out")
        'image to image, leave one out'
    """
    return task.replace("_", " ").replace(".", ", ")


def task_title(task: str) -> str:
    """Name of a task above a table or a figure.

    Example:
        >>> task_title("image_to_image.leave_one_out")
        'Image to image, leave one out'
        >>> task_title("image_to_image")
        'Image to image, query and gallery'
    """
    if task == "image_to_image":
        return "Image to image, query and gallery"

    label = task_label(task)
    return label[:1].upper() + label[1:]
