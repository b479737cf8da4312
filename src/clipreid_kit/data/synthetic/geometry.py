"""Outlines in object units: the square [-1, 1] x [-1, 1], x to the right and y downward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "n 2"]
Paint = Literal["fabric", "main", "second", "deep", "hollow", "ink", "pale", "metal", "wood"]


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a drawing, painted over those before it.

    Attributes:
        points: The corners of a filled polygon, or of an open line where ``width`` is above 0.
        paint: ``fabric`` carries the pattern; the others are flat.
        width: Thickness of a line, in object units; 0 for a filled polygon.
        outlined: Whether a dark contour is drawn around it.
    """

    points: Points
    paint: Paint
    width: float = 0.0
    outlined: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """A spot on the surface where a mark fits.

    Attributes:
        words: Where it is, as a caption says it: ``on the chest``.
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
    """The drawing of one kind of object: its parts from back to front, and where marks fit."""

    parts: tuple[Part, ...]
    places: tuple[Place, ...]


def smooth(corners: Sequence[tuple[float, float]], rounds: int = 3) -> Points:
    """Closed outline with its corners cut round (Chaikin); a corner that is given twice stays sharp."""
    points = np.asarray(corners, dtype=np.float64)
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1)
        points = cut.reshape(-1, 2)
    return points


def smooth_line(corners: Sequence[tuple[float, float]], rounds: int = 3) -> Points:
    """Open line with its corners cut round; both ends stay where they are."""
    points = np.asarray(corners, dtype=np.float64)
    for _ in range(rounds):
        start, end = points[:-1], points[1:]
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1).reshape(
            -1, 2
        )
        points = np.concatenate([points[:1], cut[1:-1], points[-1:]])
    return points


def flipped(points: Points) -> Points:
    """The same outline on the other side of the vertical axis."""
    other_side: Points = points * np.array([-1.0, 1.0])
    return other_side


def symmetric(half: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of a symmetric outline from its right half, given from the top of the axis to its bottom."""
    return [*half, *((-x, y) for x, y in reversed(half) if x != 0)]


def ellipse(
    x: float,
    y: float,
    width: float,
    height: float,
    start: float = 0.0,
    stop: float = 360.0,
    count: int = 36,
) -> Points:
    """Points of an ellipse with half axes ``width`` and ``height``; degrees run clockwise from the right."""
    angle = np.radians(np.linspace(start, stop, count))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Points:
    """A rectangle whose corners have the given radius."""
    if radius == 0.0:
        return np.array(
            [(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64
        )
    corners = (
        (right - radius, top + radius, -90.0),
        (right - radius, bottom - radius, 0.0),
        (left + radius, bottom - radius, 90.0),
        (left + radius, top + radius, 180.0),
    )
    return np.concatenate([ellipse(x, y, radius, radius, at, at + 90.0, 7) for x, y, at in corners])


def project(matrix: Float[np.ndarray, "3 3"], points: Points) -> Points:
    """Send points through a plane projective map."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    projected: Points = mapped[:, :2] / mapped[:, 2:]
    return projected
