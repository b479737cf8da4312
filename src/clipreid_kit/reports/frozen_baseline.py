"""The frozen start model beside a trained one: did training make it worse?

A run evaluates its start model, untouched, before it trains. Its results are the moment ``before``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clipreid_kit.reports.measures import COMPARED, Rates, rates_of, task_label
from clipreid_kit.reports.runs import Run
from clipreid_kit.reports.tables import Row, mean_and_std
from clipreid_kit.reports.versions import runs_by_version

Results = Mapping[str, Mapping[str, Any]]

_MOST_SENTENCES = 3


def changes_of(results: Results) -> dict[str, Rates]:
    """Trained rates minus those of the frozen start model, by task; a missing rate is ``None``.

    Args:
        results: Numbers by moment (``before``, ``after``) and task.

    Returns:
        Differences of fractions; without training, nothing.
    """
    before, after = results.get("before", {}), results.get("after", {})

    changes = {}
    for task in after:
        if task in before:
            old, new = rates_of(before[task]), rates_of(after[task])
            changes[task] = {column: _difference(old[column], new[column]) for column in old}
    return changes


def verdict(results: Results) -> str:
    """Whether training made the mAP of the frozen start model better; empty without training.

    A sentence on each task. Of more than three, the first of each kind (``image_to_image``,
    ``text_to_image``) has one; the last sentence counts the others and names the worst.

    Example:
        >>> before, after = {"mean_ap": 0.375}, {"mean_ap": 0.301}
        >>> verdict({"before": {"image_to_image": before}, "after": {"image_to_image": after}})
        'image to image: training made the start model WORSE (mAP 37.5 frozen, 30.1 trained).'
    """
    changes = {}
    for task, change in changes_of(results).items():
        if change["mAP"] is not None:
            changes[task] = change["mAP"]

    leading = list(changes)
    if len(changes) > _MOST_SENTENCES:
        leading = _first_of_each_kind(changes)
    others = {task: change for task, change in changes.items() if task not in leading}

    sentences = []
    for task in leading:
        made = f"training made the start model {_word(changes[task])}"
        sentences.append(f"{task_label(task)}: {made} {_mean_aps(results, task)}.")
    if others:
        sentences.append(_on_others(results, others))
    return "\n".join(sentences)


def change_rows(runs: Sequence[Run]) -> list[Row]:
    """One row per version and task: mean change of its runs, and how many of them became worse.

    The change is taken run by run, so its spread is that of training and not of the start models.
    """
    table: list[Row] = []
    for version, members in runs_by_version(runs).items():
        changes_of_task: dict[str, list[Rates]] = {}
        for run in members:
            for task, rates in changes_of(run.results).items():
                changes_of_task.setdefault(task, []).append(rates)

        for task, measured in changes_of_task.items():
            row: Row = {"version": version, "task": task, "num_runs": len(measured)}
            row["num_worse"] = sum((rates["mAP"] or 0) < 0 for rates in measured)
            for column in COMPARED:
                mean, spread = mean_and_std([rates[column] for rates in measured])
                row |= {f"{column}_fraction": mean, f"{column}_std_fraction": spread}
            table.append(row)
    return sorted(table, key=lambda row: str(row["task"]))


def _first_of_each_kind(tasks: Iterable[str]) -> list[str]:
    """The first task of each kind, such as ``image_to_image`` before ``image_to_image.rerank``."""
    first: dict[str, str] = {}
    for task in tasks:
        first.setdefault(task.partition(".")[0], task)
    return list(first.values())


def _on_others(results: Results, changes: Mapping[str, float]) -> str:
    """One sentence that counts tasks by their change, and names the one that lost most."""
    counts = Counter(_word(change) for change in changes.values())
    counted = ", ".join(f"{count} {word}" for word, count in counts.most_common())
    sentence = f"{len(changes)} other task{'s' if len(changes) > 1 else ''}: {counted}"

    worst = min(changes, key=lambda task: changes[task])
    if changes[worst] < 0:
        sentence += f"; the worst is {task_label(worst)} {_mean_aps(results, worst)}"
    return f"{sentence}."


def _word(change: float) -> str:
    if change == 0:
        return "neither better nor worse"
    return "WORSE" if change < 0 else "better"


def _mean_aps(results: Results, task: str) -> str:
    old, new = (100 * _mean_ap(results[moment][task]) for moment in ("before", "after"))
    return f"(mAP {old:.1f} frozen, {new:.1f} trained)"


def _difference(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None else new - old


def _mean_ap(numbers: Mapping[str, Any]) -> float:
    rate = rates_of(numbers)["mAP"]
    return 0.0 if rate is None else rate
