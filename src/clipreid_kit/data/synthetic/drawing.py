"""Painting one object onto a canvas through a projective map."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageChops, ImageDraw

from clipreid_kit.data.synthetic.attributes import COLOURS, Mark, Rgb
from clipreid_kit.data.synthetic.geometry import Paint, Place, Points, Shape, project
from clipreid_kit.data.synthetic.marks import glyph_strokes, mark_polygon
from clipreid_kit.data.synthetic.patterns import pattern_mask

_CONTOUR = 0.036
_INK: Rgb = (30, 28, 36)


@dataclass(frozen=True, slots=True)
class Look:
    """Colours, pattern and mark of one object."""

    main: Rgb
    second: Rgb
    pattern: str
    period: float
    mark: Mark | None


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A picture, and a mask of the pixels that objects cover."""

    picture: Image.Image
    mask: Image.Image


def draw_object(
    canvas: Canvas,
    shape: Shape,
    look: Look,
    matrix: Float[np.ndarray, "3 3"],
    unit: float,
    *,
    mirrored: bool,
) -> None:
    """Paint an object: its parts from back to front, then its mark.

    Args:
        canvas: Painted on in place.
        shape: The drawing.
        look: Its colours.
        matrix: Projective map from object units to pixels of the canvas.
        unit: Pixels for one object unit, for the thickness of lines.
        mirrored: Whether the drawing is mirrored; the mark moves with it but stays readable.
    """
    side = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    picture, mask = ImageDraw.Draw(canvas.picture), ImageDraw.Draw(canvas.mask)
    fabric = Image.new("L", canvas.picture.size)
    on_fabric = ImageDraw.Draw(fabric)
    texture = (
        _texture(canvas.picture.size, look, matrix @ side) if look.pattern != "plain" else None
    )
    paints = _paints(look)
    contour = max(1, round(_CONTOUR * unit))
    for part in shape.parts:
        points = _pixels(project(matrix @ side, part.points))
        width = max(1, round(part.width * unit))
        if part.width:
            around = width + 2 * contour if part.outlined else width
            _stroke(picture, points, paints["ink"], around)
            _stroke(picture, points, paints[part.paint], width)
            _stroke(mask, points, 255, around)
            _stroke(on_fabric, points, 0, width)
            continue
        if part.paint == "fabric" and texture is not None:
            piece = Image.new("L", canvas.picture.size)
            ImageDraw.Draw(piece).polygon(points, fill=255)
            canvas.picture.paste(texture, (0, 0), piece)
        else:
            picture.polygon(points, fill=paints[part.paint])
        mask.polygon(points, fill=255)
        on_fabric.polygon(points, fill=255 if part.paint == "fabric" else 0)
        if part.outlined:
            closed = [*points, *points[:2]]
            picture.line(closed, fill=paints["ink"], width=contour, joint="curve")
            mask.line(closed, fill=255, width=contour, joint="curve")
    if look.mark is not None:
        place = shape.places[look.mark.place_index]
        if look.mark.shape == "band":
            _draw_band(canvas, fabric, look.mark, place, matrix @ side, paints["ink"], contour)
        else:
            _draw_mark(picture, look.mark, place, matrix, unit, mirrored=mirrored)


def _draw_mark(
    picture: ImageDraw.ImageDraw,
    mark: Mark,
    place: Place,
    matrix: Float[np.ndarray, "3 3"],
    unit: float,
    *,
    mirrored: bool,
) -> None:
    colour = COLOURS[mark.colour]
    edge = _INK if float(np.dot(colour, (0.3, 0.59, 0.11))) > 130.0 else (250, 248, 240)
    rim = max(1, round(0.05 * unit))
    centre = np.array([-place.x if mirrored else place.x, place.y])
    if mark.symbol:
        pen = max(1, round(0.42 * place.size * unit))
        lines = [
            _pixels(project(matrix, centre + 0.92 * place.size * line))
            for line in glyph_strokes(mark.symbol)
        ]
        for points in lines:
            _stroke(picture, points, edge, pen + 2 * rim)
        for points in lines:
            _stroke(picture, points, colour, pen)
        return
    points = _pixels(project(matrix, centre + 1.05 * place.size * mark_polygon(mark.shape)))
    picture.line([*points, *points[:2]], fill=edge, width=2 * rim, joint="curve")
    picture.polygon(points, fill=colour)


def _draw_band(
    canvas: Canvas,
    fabric: Image.Image,
    mark: Mark,
    place: Place,
    matrix: Float[np.ndarray, "3 3"],
    ink: Rgb,
    contour: int,
) -> None:
    across = np.linspace(-1.3, 1.3, 9)
    half = 0.62 * place.size
    upper = np.stack([across, np.full(9, place.y - half)], axis=1)
    lower = np.stack([across[::-1], np.full(9, place.y + half)], axis=1)
    points = _pixels(project(matrix, np.concatenate([upper, lower])))
    band = Image.new("RGB", canvas.picture.size, COLOURS[mark.colour])
    ImageDraw.Draw(band).line([*points, *points[:2]], fill=ink, width=contour)
    where = Image.new("L", canvas.picture.size)
    ImageDraw.Draw(where).polygon(points, fill=255)
    canvas.picture.paste(band, (0, 0), ImageChops.darker(where, fabric))


def _texture(size: tuple[int, int], look: Look, matrix: Float[np.ndarray, "3 3"]) -> Image.Image:
    width, height = size
    inverse = np.linalg.inv(matrix).astype(np.float32)
    column = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)
    row = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    depth = inverse[2, 0] * column + (inverse[2, 1] * row + inverse[2, 2])
    x = (inverse[0, 0] * column + (inverse[0, 1] * row + inverse[0, 2])) / depth
    y = (inverse[1, 0] * column + (inverse[1, 1] * row + inverse[1, 2])) / depth
    second = pattern_mask(look.pattern, x, y, look.period)
    texture = Image.new("RGB", size, look.main)
    texture.paste(
        look.second, (0, 0, width, height), Image.fromarray(second.astype(np.uint8) * 255)
    )
    return texture


def _paints(look: Look) -> Mapping[Paint, Rgb]:
    return {
        "fabric": look.main,
        "main": look.main,
        "second": look.second,
        "deep": _mixed(look.main, _INK, 0.3),
        "hollow": _mixed(look.main, _INK, 0.6),
        "ink": _mixed(look.main, _INK, 0.78),
        "pale": (246, 241, 230),
        "metal": (186, 192, 200),
        "wood": (168, 120, 78),
    }


def _mixed(first: Rgb, second: Rgb, part: float) -> Rgb:
    red, green, blue = (round(a + part * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _pixels(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]


def _stroke(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], fill: Rgb | int, width: int
) -> None:
    draw.line(points, fill=fill, width=width, joint="curve")
    radius = width / 2.0
    for x, y in (points[0], points[-1]):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
