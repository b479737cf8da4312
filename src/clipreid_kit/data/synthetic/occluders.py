"""What stands in front: a bar, a leaf, or a part of another object."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from PIL import ImageDraw

from clipreid_kit.data.synthetic.attributes import COLOURS, Rgb
from clipreid_kit.data.synthetic.drawing import Canvas, Look, draw_object
from clipreid_kit.data.synthetic.geometry import Points, Shape, project, smooth
from clipreid_kit.data.synthetic.poses import Pose

_BARS: tuple[Rgb, ...] = ((120, 124, 130), (146, 108, 74), (72, 78, 92), (196, 190, 178))
_LEAF = (
    (0.0, 0.0),
    (0.0, 0.0),
    (0.26, 0.34),
    (0.28, 0.8),
    (0.0, 1.3),
    (0.0, 1.3),
    (-0.28, 0.8),
    (-0.26, 0.34),
)


def draw_occluder(
    canvas: Canvas, shapes: Mapping[str, Shape], pose: Pose, rng: np.random.Generator
) -> None:
    """Paint what stands in front of an object, over its edge and not over its middle.

    Args:
        canvas: Painted on in place; its mask receives what the occluder covers.
        shapes: The drawing of every kind.
        pose: Says what stands in front, and on which side.
        rng: Its size, place and colours.
    """
    if pose.occluder == "object":
        _draw_other_object(canvas, shapes, pose, rng)
    elif pose.occluder == "bar":
        x, lean, half = (
            pose.side * rng.uniform(0.5, 0.85),
            rng.uniform(-0.2, 0.2),
            rng.uniform(0.06, 0.1),
        )
        ends = [
            (x - half - lean, -3),
            (x + half - lean, -3),
            (x + half + lean, 3),
            (x - half + lean, 3),
        ]
        gleam = [(x - 0.4 * half - lean, -3), (x - 0.4 * half + lean, 3)]
        _draw_piece(
            canvas, pose, np.array(ends), np.array(gleam), _BARS[int(rng.integers(len(_BARS)))]
        )
    else:
        turn = float(rng.uniform(-1.0, 0.9)) + (np.pi if pose.side < 0 else 0.0)
        along = np.array([[np.sin(turn), -np.cos(turn)], [np.cos(turn), np.sin(turn)]])
        tip = 0.34 * along[1]
        red, green, blue = (shade + int(rng.integers(-24, 25)) for shade in (70, 130, 72))
        vein = np.array([(0.0, 0.1), (0.0, 1.2)])
        _draw_piece(
            canvas, pose, smooth(_LEAF) @ along + tip, vein @ along + tip, (red, green, blue)
        )


def _draw_piece(
    canvas: Canvas, pose: Pose, outline: Points, ridge: Float[np.ndarray, "m 2"], colour: Rgb
) -> None:
    red, green, blue = colour
    points, line = (
        [(float(x), float(y)) for x, y in project(pose.matrix, part)] for part in (outline, ridge)
    )
    picture = ImageDraw.Draw(canvas.picture)
    edge = (red // 2, green // 2, blue // 2)
    picture.polygon(points, fill=colour, outline=edge, width=max(1, round(0.03 * pose.unit)))
    gleam = (min(255, red + 38), min(255, green + 42), min(255, blue + 36))
    picture.line(line, fill=gleam, width=max(1, round(0.04 * pose.unit)))
    ImageDraw.Draw(canvas.mask).polygon(points, fill=255)


def _draw_other_object(
    canvas: Canvas, shapes: Mapping[str, Shape], pose: Pose, rng: np.random.Generator
) -> None:
    kind = sorted(shapes)[int(rng.integers(len(shapes)))]
    main, second = (
        list(COLOURS.values())[i] for i in rng.choice(len(COLOURS), size=2, replace=False)
    )
    x, y = pose.side * rng.uniform(0.9, 1.1), rng.uniform(0.45, 0.85)
    away = np.array([[0.6, 0.0, x], [0.0, 0.6, y], [0.0, 0.0, 1.0]])
    look = Look(main, second, "plain", 1.0, None)
    draw_object(
        canvas, shapes[kind], look, pose.matrix @ away, 0.6 * pose.unit, mirrored=pose.side < 0
    )
