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
    if value is None or value != value or (isinstance(value, str) and not _parts_of(value)):
        return None

    numbers = _numbers_of(value)
    if len(numbers) != 4:
        raise fail(owner, f"a box of four numbers in {where}", shown(value))
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _numbers_of(value: object) -> list[float]:
    """Return the numbers of a text or list; an empty list if anything in it is no number."""
    if isinstance(value, str):
        parts = _parts_of(value)
        are_numbers = all(_NUMBER.fullmatch(part) for part in parts)
        return [float(part) for part in parts] if are_numbers else []

    if isinstance(value, list | tuple):
        are_numbers = all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in value
        )
        return [float(one) for one in value] if are_numbers else []

    return []


def _parts_of(text: str) -> list[str]:
    """Split a text such as ``[1, 2, 3, 4]`` or ``1 2;3 4``."""
    inside = text.strip().strip("[](){}")
    return [part for part in re.split(r"[\s,;]+", inside) if part]
