"""Occluders: a bar, a leaf, or part of another object in front of the object."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from PIL import ImageDraw

from clipreid_kit.data.synthetic._objects.geometry import (
    Points,
    Shape,
    pixel_pairs,
    project,
    smooth,
)
from clipreid_kit.data.synthetic._scene.object_painter import Canvas, Look, draw_object
from clipreid_kit.data.synthetic._scene.poses import Pose
from clipreid_kit.data.synthetic.identities import COLOURS, Rgb

_BARS: tuple[Rgb, ...] = ((120, 124, 130), (146, 108, 74), (72, 78, 92), (196, 190, 178))
_LEAF_RIGHT = ((0.0, 0.0), (0.0, 0.0), (0.26, 0.34), (0.28, 0.8))
_LEAF_LEFT = ((0.0, 1.3), (0.0, 1.3), (-0.28, 0.8), (-0.26, 0.34))


def draw_occluder(
    canvas: Canvas, shapes: Mapping[str, Shape], pose: Pose, rng: np.random.Generator
) -> None:
    """Paint the occluder of a pose: over the edge of the object, never over its middle.

    Args:
        canvas: Painted on in place; its mask receives the pixels that the occluder covers.
        shapes: The drawing of every kind.
        pose: Names the occluder and its side.
        rng: Chooses its size, position and colours.
    """
    if pose.occluder == "object":
        _draw_other_object(canvas, shapes, pose, rng)
    elif pose.occluder == "bar":
        _draw_bar(canvas, pose, rng)
    else:
        _draw_leaf(canvas, pose, rng)


def _draw_bar(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a bar from the top to the bottom of the frame."""
    x = pose.side * rng.uniform(0.5, 0.85)
    lean = rng.uniform(-0.2, 0.2)
    half_width = rng.uniform(0.06, 0.1)

    upper_end = [(x - half_width - lean, -3), (x + half_width - lean, -3)]
    lower_end = [(x + half_width + lean, 3), (x - half_width + lean, 3)]
    gleam = [(x - 0.4 * half_width - lean, -3), (x - 0.4 * half_width + lean, 3)]
    colour = _BARS[int(rng.integers(len(_BARS)))]

    _draw_piece(canvas, pose, np.array([*upper_end, *lower_end]), np.array(gleam), colour)


def _draw_leaf(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Draw a leaf that grows away from the middle."""
    turn = float(rng.uniform(-1.0, 0.9))
    if pose.side < 0:
        turn += np.pi

    rotation = np.array([[np.sin(turn), -np.cos(turn)], [np.cos(turn), np.sin(turn)]])
    stem = 0.34 * rotation[1]
    outline = smooth([*_LEAF_RIGHT, *_LEAF_LEFT]) @ rotation + stem
    vein = np.array([(0.0, 0.1), (0.0, 1.2)]) @ rotation + stem

    red, green, blue = (shade + int(rng.integers(-24, 25)) for shade in (70, 130, 72))
    _draw_piece(canvas, pose, outline, vein, (red, green, blue))


def _draw_piece(
    canvas: Canvas, pose: Pose, outline: Points, ridge: Float[np.ndarray, "m 2"], colour: Rgb
) -> None:
    """Draw a filled polygon with a dark edge and one bright line."""
    red, green, blue = colour
    edge = (red // 2, green // 2, blue // 2)
    gleam = (min(255, red + 38), min(255, green + 42), min(255, blue + 36))
    edge_width = max(1, round(0.03 * pose.unit))
    gleam_width = max(1, round(0.04 * pose.unit))

    points = pixel_pairs(project(pose.matrix, outline))
    line = pixel_pairs(project(pose.matrix, ridge))

    draw = ImageDraw.Draw(canvas.image)
    draw.polygon(points, fill=colour, outline=edge, width=edge_width)
    draw.line(line, fill=gleam, width=gleam_width)
    ImageDraw.Draw(canvas.mask).polygon(points, fill=255)


def _draw_other_object(
    canvas: Canvas, shapes: Mapping[str, Shape], pose: Pose, rng: np.random.Generator
) -> None:
    """Draw a smaller plain object beside the middle."""
    kind = sorted(shapes)[int(rng.integers(len(shapes)))]
    colours = list(COLOURS.values())
    main, second = (colours[i] for i in rng.choice(len(COLOURS), size=2, replace=False))
    look = Look(main, second, pattern="plain", period=1.0, mark=None)

    x = pose.side * rng.uniform(0.9, 1.1)
    y = rng.uniform(0.45, 0.85)
    scale = 0.6
    beside = np.array([[scale, 0.0, x], [0.0, scale, y], [0.0, 0.0, 1.0]])

    draw_object(
        canvas,
        shapes[kind],
        look,
        pose.matrix @ beside,
        scale * pose.unit,
        mirrored=pose.side < 0,
    )
