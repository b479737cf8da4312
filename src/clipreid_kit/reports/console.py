"""Lines for the console and the log of a training run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipreid_kit.reports.frozen_baseline import changes_of
from clipreid_kit.reports.measures import TITLES, Rates, rates_of, task_label
from clipreid_kit.reports.occlusion import is_occlusion_task, occlusion_curves

_NARROWEST = 36  # column of the labels, in characters


def results_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Results before and after training, in percent: one line per task and moment.

    Tasks with several splits show their means. A third line is the change against the start model,
    which was frozen before; :func:`verdict` says it in words. Tasks under occlusion come last, in a
    table of their own: the mAP of each kind of occluder, with a column for each occluded share.

    Args:
        results: Numbers by moment (``before``, ``after``) and task.
    """
    moments = [moment for moment in ("before", "after") if moment in results]
    changes = changes_of(results)
    tasks = [task for task in results[moments[-1]] if not is_occlusion_task(task)]

    width = _NARROWEST
    for task in tasks:
        for moment in moments:
            width = max(width, len(_label(task, moment)) + 1)

    titles = "".join(f"{title:>9}" for title in TITLES.values())
    lines = [" " * width + titles]
    for task in tasks:
        for moment in moments:
            rates = rates_of(results[moment].get(task, {}))
            lines.append(_line(_label(task, moment), rates, width, sign=""))
        if task in changes:
            lines.append(_line(_label(task, "change"), changes[task], width, sign="+"))

    lines += _occlusion_lines(results, moments, width)
    return "\n".join(lines)


def _occlusion_lines(
    results: Mapping[str, Mapping[str, Any]], moments: Sequence[str], width: int
) -> list[str]:
    """A table of mAP by kind of occluder and occluded share; no line if nothing was occluded."""
    curves = {moment: occlusion_curves(results[moment]) for moment in moments}
    kinds = curves[moments[-1]]
    if not kinds:
        return []

    shares = sorted({share for curve in kinds.values() for share in curve})
    titles = "".join(f"{f'{100 * share:g} %':>9}" for share in shares)
    lines = ["", f"{'mAP by occluded share':{width}}{titles}"]
    for kind in kinds:
        for moment in moments:
            curve = curves[moment].get(kind, {})
            rates: Rates = {str(share): curve.get(share) for share in shares}
            lines.append(_line(f"{kind}, {moment}", rates, width, sign=""))
    return lines


def _label(task: str, moment: str) -> str:
    return f"{task_label(task)}, {moment}"


def _line(label: str, rates: Rates, width: int, sign: str) -> str:
    """One line of the table; ``sign`` is that of a format."""
    cells = ["-" if rate is None else f"{100 * rate:{sign}.1f}" for rate in rates.values()]
    return f"{label:{width}}" + "".join(f"{cell:>9}" for cell in cells)


def epoch_line(row: Mapping[str, Any]) -> str:
    """One line about an epoch, and one for each alarm.

    Args:
        row: The epoch, a row of ``metrics.jsonl``.
    """
    speed = row["images_per_second"]
    line = f"epoch {row['epoch']:3d}  loss {row['loss']:.3f}  {speed:.0f} images/s"

    for numbers in row.get("validation", {}).values():
        if "rank_1" in numbers:
            rank_1, mean_ap = 100 * numbers["rank_1"], 100 * numbers["mean_ap"]
            line += f"  validation Rank-1 {rank_1:.1f}  mAP {mean_ap:.1f}"
            break

    if row["best"] and "validation" in row:
        line += "  best"

    alarms = [f"  ALARM: {alarm}" for alarm in row["alarms"]]
    return "\n".join([line, *alarms])


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested values for a logger.

    Example:
        >>> list(flat({"loss": 1.5, "validation": {"rank_1": 0.5}}))
        [('loss', 1.5), ('validation/rank_1', 0.5)]
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
