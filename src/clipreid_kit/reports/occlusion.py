"""Results under occlusion: names of their tasks, and curves over the occluded share."""

import re
from collections.abc import Mapping
from typing import Any

from clipreid_kit.reports.measures import rates_of

_TASK = re.compile(
    r"image_to_image(?:\.(?P<protocol>\w+))?\.occluded_(?P<kind>[a-z]+)_(?P<share>[\d.]+)"
)


def occlusion_task(kind: str, share: float) -> str:
    """Name of a result under occlusion, below that of its protocol.

    Example:
        >>> occlusion_task("bottom", 0.3)
        'occluded_bottom_30'
    """
    return f"occluded_{kind}_{100 * share:g}"


def is_occlusion_task(task: str) -> bool:
    """Whether a task is a result under occlusion.

    Example:
        >>> is_occlusion_task("image_to_image.occluded_bottom_30"), is_occlusion_task("rerank")
        (True, False)
    """
    return _TASK.fullmatch(task) is not None


def occlusion_curves(
    numbers: Mapping[str, Mapping[str, Any]], measure: str = "mAP"
) -> dict[str, dict[float, float]]:
    """Rates by kind of occluder and occluded share, with the clean rate at 0.

    Args:
        numbers: Numbers by task, as ``results.json`` holds them for a moment.
        measure: ``R1``, ``mAP`` or another measure of the tables.

    Returns:
        For each kind, and for each protocol if there are several, the rate in [0, 1] by share,
        ascending; empty if nothing was occluded.

    Example:
        >>> clean, hidden = {"mean_ap": 0.8}, {"mean_ap": 0.5}
        >>> tasks = {"image_to_image": clean, "image_to_image.occluded_bottom_30": hidden}
        >>> occlusion_curves(tasks)
        {'bottom': {0.0: 0.8, 0.3: 0.5}}
    """
    curves: dict[str, dict[float, float]] = {}
    for task, values in numbers.items():
        match = _TASK.fullmatch(task)
        if match is None:
            continue

        whole = numbers.get(task.rpartition(".occluded_")[0], {})
        name = " ".join(filter(None, [match["kind"], match["protocol"]])).replace("_", " ")
        for share, found in ((0.0, whole), (float(match["share"]) / 100, values)):
            rate = rates_of(found)[measure]
            if rate is not None:
                curves.setdefault(name, {})[share] = rate
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}
