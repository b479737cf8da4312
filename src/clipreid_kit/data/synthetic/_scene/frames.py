"""Frames of a view: the object sways, and something may pass in front of it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from clipreid_kit.data.synthetic._scene.object_painter import Canvas
from clipreid_kit.data.synthetic.identities import Rgb

_PASSING_ODDS = 0.35
_SWAY = 0.12  # largest shift, as a fraction of the short side
_TURN = 8.0  # largest turn in degrees


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Difference of a later frame of a view from its first.

    Attributes:
        shift: Shift to the right and downwards, as fractions of the short side.
        turn: Turn in radians.
        passing: Left and right edge of what passes, as fractions of the width; ``None`` if nothing
            does.
        colour: Its colour.
        rng: Draws light and noise of the frame.
    """

    shift: tuple[float, float]
    turn: float
    passing: tuple[float, float] | None
    colour: Rgb
    rng: np.random.Generator


def make_frame(number: int, view: np.random.Generator, rng: np.random.Generator) -> Frame:
    """Draw a frame.

    Args:
        number: Number of the frame, at least 1.
        view: Draws how the object moves; the same for all frames of a view.
        rng: Draws what is particular to this frame.
    """
    phase = view.uniform(0.0, 2.0 * np.pi)
    speed = view.uniform(0.4, 1.0)
    sway, bob = view.uniform(0.4, 1.0, size=2) * _SWAY

    # The first frame is at rest: the movement begins there.
    now, start = phase + speed * number, phase
    shift = (sway * (np.sin(now) - np.sin(start)), 0.5 * bob * (np.cos(now) - np.cos(start)))
    turn = np.radians(_TURN) * 0.5 * (np.sin(1.3 * now) - np.sin(1.3 * start))

    passing = None
    if rng.random() < _PASSING_ODDS:
        left = rng.uniform(-0.1, 0.7)
        passing = (float(left), float(left + rng.uniform(0.3, 0.6)))
    red, green, blue = rng.integers(20, 236, size=3).tolist()
    return Frame((float(shift[0]), float(shift[1])), float(turn), passing, (red, green, blue), rng)


def moved(
    matrix: Float[np.ndarray, "3 3"], frame: Frame, size: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    """Return the map from object units to pixels in a frame: turned about the middle, shifted."""
    width, height = size
    cosine, sine = np.cos(frame.turn), np.sin(frame.turn)
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])

    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2] = -0.5 * width, -0.5 * height
    back[:2, 2] = (
        0.5 * width + frame.shift[0] * min(size),
        0.5 * height + frame.shift[1] * min(size),
    )
    found: Float[np.ndarray, "3 3"] = back @ turn @ to_middle @ matrix
    return found


def draw_passing(canvas: Canvas, body: Image.Image, frame: Frame) -> None:
    """Paint what passes in front of the object, from the top of the frame to the bottom.

    Args:
        canvas: Painted on in place.
        body: Mask of the object, of which the covered part is removed.
        frame: The frame.
    """
    if frame.passing is None:
        return

    width, height = canvas.image.size
    left, right = (round(edge * width) for edge in frame.passing)
    box = (left, 0, right, height)
    ImageDraw.Draw(canvas.image).rectangle(box, fill=frame.colour)
    ImageDraw.Draw(canvas.mask).rectangle(box, fill=255)
    ImageDraw.Draw(body).rectangle(box, fill=0)
