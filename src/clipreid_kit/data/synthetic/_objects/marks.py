"""Marks: small signs that distinguish an identity from its near-twins."""

import numpy as np

from clipreid_kit.data.synthetic._objects.geometry import Corner, Points, ellipse, smooth_line

MARK_SHAPES = ("star", "heart", "circle", "triangle", "flower", "letter", "number", "band")

# Pen strokes in the square [-1, 1] x [-1, 1]; a new stroke begins where the pen is lifted.
_Strokes = tuple[tuple[Corner, ...], ...]

_LETTERS: dict[str, _Strokes] = {
    "A": (((-0.8, 1.0), (0.0, -1.0), (0.8, 1.0)), ((-0.45, 0.35), (0.45, 0.35))),
    "E": (((0.7, -1.0), (-0.6, -1.0), (-0.6, 1.0), (0.7, 1.0)), ((-0.6, 0.0), (0.5, 0.0))),
    "F": (((0.7, -1.0), (-0.6, -1.0), (-0.6, 1.0)), ((-0.6, 0.0), (0.45, 0.0))),
    "H": (((-0.7, -1.0), (-0.7, 1.0)), ((0.7, -1.0), (0.7, 1.0)), ((-0.7, 0.0), (0.7, 0.0))),
    "K": (((-0.65, -1.0), (-0.65, 1.0)), ((0.7, -1.0), (-0.55, 0.1), (0.75, 1.0))),
    "M": (((-0.85, 1.0), (-0.7, -1.0), (0.0, 0.4), (0.7, -1.0), (0.85, 1.0)),),
    "T": (((-0.85, -1.0), (0.85, -1.0)), ((0.0, -1.0), (0.0, 1.0))),
    "X": (((-0.75, -1.0), (0.75, 1.0)), ((0.75, -1.0), (-0.75, 1.0))),
}

_TOP_OF_3 = ((-0.6, -1.0), (0.65, -1.0), (-0.05, -0.15))
_BOWL_OF_3 = ((0.85, 0.05), (0.6, 1.0), (-0.2, 1.1), (-0.7, 0.75))
_TOP_OF_5 = ((0.65, -1.0), (-0.5, -1.0), (-0.6, -0.1))
_BOWL_OF_5 = ((0.6, -0.35), (0.85, 0.6), (0.2, 1.1), (-0.7, 0.85))

_NUMBERS: dict[str, _Strokes] = {
    "1": (((-0.45, -0.6), (0.1, -1.0), (0.1, 1.0)),),
    "2": (((-0.65, -0.7), (-0.2, -1.05), (0.7, -0.95), (0.6, -0.1), (-0.65, 1.0), (0.75, 1.0)),),
    "3": ((*_TOP_OF_3, *_BOWL_OF_3),),
    "4": (((0.3, 1.0), (0.3, -1.0), (-0.75, 0.4), (0.8, 0.4)),),
    "5": ((*_TOP_OF_5, *_BOWL_OF_5),),
    "7": (((-0.7, -1.0), (0.75, -1.0), (-0.15, 1.0)),),
}
_CURVED = "235"

LETTERS = tuple(_LETTERS)
NUMBERS = tuple(_NUMBERS)


def mark_polygon(shape: str) -> Points:
    """Outline of a filled mark in the square [-1, 1] x [-1, 1].

    Args:
        shape: ``star``, ``heart``, ``circle``, ``triangle`` or ``flower``.
    """
    if shape == "star":
        angle = np.radians(np.arange(10) * 36.0 - 90.0)
        radius = np.where(np.arange(10) % 2 == 0, 1.12, 0.5)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    if shape == "heart":
        t = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([np.sin(t) ** 3, -(y + 2.5) / 15.0], axis=1)

    if shape == "flower":
        t = np.linspace(0.0, 2.0 * np.pi, 80, endpoint=False)
        radius = 0.55 + 0.53 * np.sqrt(np.abs(np.cos(2.5 * t)))
        return np.stack([radius * np.sin(t), -radius * np.cos(t)], axis=1)

    if shape == "triangle":
        return np.array([(0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)])

    return ellipse(0.0, 0.0, 0.92, 0.92)


def glyph_strokes(symbol: str) -> list[Points]:
    """Pen strokes of a letter or digit in the square [-1, 1] x [-1, 1]; needs no font."""
    strokes = (_LETTERS | _NUMBERS)[symbol]

    if symbol in _CURVED:
        return [smooth_line(stroke, 2) for stroke in strokes]

    return [np.asarray(stroke, dtype=np.float64) for stroke in strokes]
