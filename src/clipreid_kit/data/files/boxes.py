"""Parts of an image, named by a box behind its path: ``photo.jpg#xywh=left,top,width,height``.

This is the notation of W3C's Media Fragments. As the box belongs to the path, two parts of one
photograph are two images wherever images are compared, listed or split.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from clipreid_kit._checks import fail, shown

_FRAGMENT = re.compile(r"#xywh=(-?[0-9]{1,9}),(-?[0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9})\Z")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright image; ``right`` and ``bottom`` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def split_box(path: str) -> tuple[str, Box | None]:
    """Split the path of a part of an image into that of the image, and the box."""
    match = _FRAGMENT.search(path) if "#xywh=" in path else None
    if match is None:
        return path, None

    left, top, width, height = map(int, match.groups())
    return path[: match.start()], Box(left, top, left + width, top + height)


def with_box(owner: str, path: str, corners: Sequence[float], where: str) -> str:
    """Add a box to a path: left, top, right and bottom, rounded to whole pixels.

    ``where`` names the box in errors.
    """
    if not all(math.isfinite(edge) and abs(edge) < 1e9 for edge in corners):
        raise fail(owner, f"a box of finite numbers in {where}", shown(list(corners)))

    left, top, right, bottom = (math.floor(edge + 0.5) for edge in corners)
    if right <= left or bottom <= top:
        raise ValueError(
            f"{owner}: the box {shown(list(corners))} in {where} (left, top, right, bottom) holds "
            "no pixel. A box is left, top, width, height; corners are left, top, right, bottom."
        )
    return f"{path}#xywh={left},{top},{right - left},{bottom - top}"


def four_numbers(owner: str, value: object, where: str) -> tuple[float, float, float, float] | None:
    """Return the four numbers of a cell or list; ``None`` for an empty one."""
    numbers: list[float] = []
    if isinstance(value, str):
        text = value.strip().strip("[](){}")
        parts = [part for part in re.split(r"[\s,;]+", text) if part]
        numbers = [float(part) for part in parts if _NUMBER.fullmatch(part)]
        if not parts:
            return None
        if len(numbers) < len(parts):
            numbers = []
    elif isinstance(value, list | tuple):
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
            numbers = [float(one) for one in value]
    elif value is None or value != value:
        return None

    if len(numbers) != 4:
        raise fail(owner, f"a box of four numbers in {where}", shown(value))
    return numbers[0], numbers[1], numbers[2], numbers[3]
