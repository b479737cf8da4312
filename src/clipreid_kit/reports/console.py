"""Lines for the console and the log of a training run."""

from collections.abc import Iterator, Mapping
from typing import Any

from clipreid_kit.reports.measures import TITLES, rates_of


def results_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Results before and after training, in percent: one line per task and moment.

    Tasks with several splits show their means.

    Args:
        results: Numbers by moment (``before``, ``after``) and task.
    """
    moments = [moment for moment in ("before", "after") if moment in results]
    lines = [" " * 36 + "".join(f"{title:>9}" for title in TITLES.values())]

    for task in results[moments[-1]]:
        for moment in moments:
            rates = rates_of(results[moment].get(task, {}))
            cells = ["-" if rate is None else f"{100 * rate:.1f}" for rate in rates.values()]
            label = f"{task.replace('_', ' ').replace('.', ', ')}, {moment}"
            lines.append(f"{label:36}" + "".join(f"{cell:>9}" for cell in cells))

    return "\n".join(lines)


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
