"""Checks of image sizes, channel statistics and colours."""

import math
from collections.abc import Sequence

from clipreid_kit._checks import check_number, check_positive, fail


def check_image_size(owner: str, image_size: object) -> tuple[int, int]:
    """Require one number of pixels or (height, width); return the latter."""
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size

    if isinstance(sides, tuple | list) and len(sides) == 2:
        height, width = sides
        if _is_side(height) and _is_side(width):
            return height, width

    expected = "image_size as one number of pixels or (height, width), each >= 1"
    raise fail(owner, expected, repr(image_size))


def check_statistics(owner: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Require a mean and a standard deviation for three channels in [0, 1]."""
    for name, values in (("mean", mean), ("std", std)):
        for value in values:
            check_number(owner, name, value)
        if len(values) != 3 or not all(math.isfinite(value) for value in values):
            expected = f"{name} as three finite numbers, for red, green and blue"
            raise fail(owner, expected, repr(values))

    for value in std:
        check_positive(owner, "std", value)

    if max(abs(value) for value in mean) > 1 or max(std) > 1:
        raise fail(
            owner,
            "mean and std of channels in [0, 1]",
            f"{tuple(mean)} and {tuple(std)}",
            "Divide statistics of 0..255 by 255.",
        )


def check_fill(owner: str, fill: int | tuple[int, int, int]) -> None:
    """Require a grey value or an RGB colour in 0..255."""
    levels = fill if isinstance(fill, tuple | list) else (fill,)
    for level in levels:
        check_between(owner, "fill", level, 255)


def check_between(owner: str, name: str, value: float, highest: int, unit: str = "") -> None:
    """Require a number from 0 to ``highest``."""
    check_number(owner, name, value)
    if not 0 <= value <= highest:  # False for NaN as well
        raise fail(owner, f"{name} in [0, {highest}]{unit}", value)


def _is_side(side: object) -> bool:
    """Return whether a value is a number of pixels."""
    return isinstance(side, int) and not isinstance(side, bool) and side >= 1
