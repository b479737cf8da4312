"""Outlines in object units: the square [-1, 1] x [-1, 1], x to the right and y downward."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

Corner = tuple[float, float]
Points = Float[np.ndarray, "n 2"]
Paint = Literal["fabric", "main", "second", "deep", "hollow", "ink", "pale", "metal", "wood"]


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a drawing, painted over the pieces before it.

    Attributes:
        points: The corners of a filled polygon, or of an open line if ``width`` is above 0.
        paint: ``fabric`` carries the pattern; every other paint is flat.
        width: Thickness of a line, in object units; 0 for a filled polygon.
        outlined: Whether a dark contour is drawn around it.
    """

    points: Points
    paint: Paint
    width: float = 0.0
    outlined: bool = True


@dataclass(frozen=True, slots=True)
class MarkPlace:
    """A spot on the surface where a mark fits.

    Attributes:
        words: The spot in a caption's words: ``on the chest``.
        x: Centre, in object units.
        y: Centre, in object units.
        size: Half the width of a mark there, in object units.
    """

    words: str
    x: float
    y: float
    size: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The drawing of one kind of object: its parts from back to front, and the places for marks."""

    parts: tuple[Part, ...]
    places: tuple[MarkPlace, ...]


def smooth(corners: Sequence[Corner], rounds: int = 3) -> Points:
    """Round the corners of a closed outline (Chaikin); a corner that occurs twice stays sharp."""
    points = np.asarray(corners, dtype=np.float64)

    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        near_start = 0.75 * points + 0.25 * following
        near_end = 0.25 * points + 0.75 * following
        points = np.stack([near_start, near_end], axis=1).reshape(-1, 2)

    return points


def smooth_line(corners: Sequence[Corner], rounds: int = 3) -> Points:
    """Round the corners of an open line; both of its ends keep their places."""
    points = np.asarray(corners, dtype=np.float64)

    for _ in range(rounds):
        start, end = points[:-1], points[1:]
        near_start = 0.75 * start + 0.25 * end
        near_end = 0.25 * start + 0.75 * end
        cut = np.stack([near_start, near_end], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut[1:-1], points[-1:]])

    return points


def sharp(*corners: Corner) -> list[Corner]:
    """Repeat each corner, so that :func:`smooth` leaves it sharp.

    Example:
        >>> sharp((0.0, 1.0), (1.0, 1.0))
        [(0.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 1.0)]
    """
    return [corner for corner in corners for _ in range(2)]


def symmetric(half: Sequence[Corner]) -> list[Corner]:
    """Complete a symmetric outline from its right half, given from top to bottom."""
    left_half = [(-x, y) for x, y in reversed(half) if x != 0]
    return [*half, *left_half]


def flipped(points: Points) -> Points:
    """Mirror an outline at the vertical axis."""
    other_side: Points = points * np.array([-1.0, 1.0])
    return other_side


def both_sides(part: Part) -> tuple[Part, Part]:
    """Return a part and its mirror image."""
    return part, replace(part, points=flipped(part.points))


def seam(corners: Sequence[Corner], width: float = 0.03) -> Part:
    """Draw a thin dark line: a seam, a fold or a zip."""
    return Part(smooth_line(corners), "ink", width, outlined=False)


def ellipse(
    x: float,
    y: float,
    width: float,
    height: float,
    start: float = 0.0,
    stop: float = 360.0,
    count: int = 36,
) -> Points:
    """Compute points on an ellipse.

    ``width`` and ``height`` are half axes; ``start`` and ``stop`` are degrees, clockwise from the
    right.
    """
    angle = np.radians(np.linspace(start, stop, count))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Points:
    """Corners of a rectangle, rounded by the given radius."""
    if radius == 0.0:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return np.array(corners, dtype=np.float64)

    quarter_circles = (
        (right - radius, top + radius, -90.0),
        (right - radius, bottom - radius, 0.0),
        (left + radius, bottom - radius, 90.0),
        (left + radius, top + radius, 180.0),
    )
    arcs = [
        ellipse(x, y, radius, radius, start, start + 90.0, count=7)
        for x, y, start in quarter_circles
    ]
    return np.concatenate(arcs)


def project(matrix: Float[np.ndarray, "3 3"], points: Points) -> Points:
    """Send points through a plane projective map."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    projected: Points = mapped[:, :2] / mapped[:, 2:]
    return projected


def pixel_pairs(points: Points) -> list[tuple[float, float]]:
    """Convert points to the pairs of numbers that Pillow draws."""
    return [(x, y) for x, y in points.tolist()]
