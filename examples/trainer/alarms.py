"""Alarms about epochs that go wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

_COMPARED = 2  # epochs before
_LOSS_FACTOR = 1.4
_GRADIENT_FACTOR = 3.0
_LEAST = 0.1  # of the first epoch's value; a rise from almost nothing is none
_COSINES = ("positive_cosine", "negative_cosine")


def check_jumps(means: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name losses and a gradient norm that rose suddenly, which a learning rate too high does.

    A loss jumps if it is 1.4 times the largest one of the two epochs before, a gradient norm at
    3 times; and the rise is more than a tenth of the first epoch's value.

    Args:
        means: Means of an epoch: the loss, its terms and the gradient norm.
        rows: The epochs before.

    Returns:
        One sentence each; none in the first epoch.
    """
    alarms = []
    for name, value in means.items():
        past = [float(row[name]) for row in rows if name in row]
        if not past or name in _COSINES or past[0] <= 0:
            continue

        factor = _GRADIENT_FACTOR if name == "gradient_norm" else _LOSS_FACTOR
        highest = max(past[-_COMPARED:])
        if value > factor * highest and value - highest > _LEAST * past[0]:
            alarms.append(
                f"{name} jumped from {past[-1]:.3g} to {value:.3g} in one epoch: lower optim.lr, "
                "or lengthen optim.warmup_epochs"
            )
    return alarms
