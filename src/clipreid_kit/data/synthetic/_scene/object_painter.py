"""Paint one object onto a canvas through a projective map."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageChops, ImageDraw

from clipreid_kit.data.synthetic._objects.geometry import (
    MarkPlace,
    Paint,
    Part,
    Shape,
    pixel_pairs,
    project,
)
from clipreid_kit.data.synthetic._objects.marks import glyph_strokes, mark_polygon
from clipreid_kit.data.synthetic._objects.patterns import pattern_mask
from clipreid_kit.data.synthetic._scene.backgrounds import mixed
from clipreid_kit.data.synthetic.identities import COLOURS, Mark, Rgb

_CONTOUR = 0.036
_INK: Rgb = (30, 28, 36)
_CHALK: Rgb = (250, 248, 240)


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
    """An image, and a mask of the pixels that objects cover."""

    image: Image.Image
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
        unit: Pixels for one object unit, which scales the thickness of lines.
        mirrored: Whether the drawing is mirrored. The mark moves with it but stays readable.
    """
    # Mirroring applies to the drawing and its pattern; a star or a letter is never mirrored itself.
    towards_pixels = matrix @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    painter = _PartPainter(canvas, look, towards_pixels, unit)

    for part in shape.parts:
        if part.width:
            painter.paint_line(part)
        else:
            painter.paint_polygon(part)

    mark = look.mark
    if mark is None:
        return

    place = shape.places[mark.place_index]
    if mark.shape == "band":
        painter.paint_band(mark, place)
    else:
        _draw_mark(canvas.image, mark, place, matrix, unit, mirrored=mirrored)


class _PartPainter:
    """Paints parts, and keeps track of the pixels of which the fabric is still visible."""

    def __init__(
        self, canvas: Canvas, look: Look, matrix: Float[np.ndarray, "3 3"], unit: float
    ) -> None:
        self._canvas = canvas
        self._matrix = matrix
        self._unit = unit
        self._paints = _paints(look)
        self._contour = max(1, round(_CONTOUR * unit))

        self._look = look
        self._fabric = Image.new("L", canvas.image.size)

        self._on_image = ImageDraw.Draw(canvas.image)
        self._on_mask = ImageDraw.Draw(canvas.mask)
        self._on_fabric = ImageDraw.Draw(self._fabric)

    def paint_line(self, part: Part) -> None:
        """Draw an open line, and its contour around it."""
        points = pixel_pairs(project(self._matrix, part.points))
        width = max(1, round(part.width * self._unit))
        outer_width = width + 2 * self._contour if part.outlined else width

        _stroke(self._on_image, points, self._paints["ink"], outer_width)
        _stroke(self._on_image, points, self._paints[part.paint], width)
        _stroke(self._on_mask, points, 255, outer_width)
        _stroke(self._on_fabric, points, 0, width)

    def paint_polygon(self, part: Part) -> None:
        """Fill a polygon with its paint or with the patterned fabric, and draw its contour."""
        points = pixel_pairs(project(self._matrix, part.points))

        if part.paint == "fabric" and self._look.pattern != "plain":
            self._paint_pattern(points)
        else:
            self._on_image.polygon(points, fill=self._paints[part.paint])

        self._on_mask.polygon(points, fill=255)
        self._on_fabric.polygon(points, fill=255 if part.paint == "fabric" else 0)

        if part.outlined:
            closed = [*points, *points[:2]]
            ink = self._paints["ink"]
            self._on_image.line(closed, fill=ink, width=self._contour, joint="curve")
            self._on_mask.line(closed, fill=255, width=self._contour, joint="curve")

    def _paint_pattern(self, points: list[tuple[float, float]]) -> None:
        """Fill a polygon with the patterned fabric."""
        piece = Image.new("1", self._canvas.image.size)
        ImageDraw.Draw(piece).polygon(points, fill=1)
        box = piece.getbbox()
        if box is not None:
            texture = _texture(box, self._look, self._matrix)
            self._canvas.image.paste(texture, box, piece.crop(box))

    def paint_band(self, mark: Mark, place: MarkPlace) -> None:
        """Draw a band across the object, on the visible fabric only."""
        half_height = 0.62 * place.size
        across = np.linspace(-1.3, 1.3, 9)
        upper = np.stack([across, np.full(9, place.y - half_height)], axis=1)
        lower = np.stack([across[::-1], np.full(9, place.y + half_height)], axis=1)
        points = pixel_pairs(project(self._matrix, np.concatenate([upper, lower])))

        size = self._canvas.image.size
        band = Image.new("RGB", size, COLOURS[mark.colour])
        closed = [*points, *points[:2]]
        ImageDraw.Draw(band).line(closed, fill=self._paints["ink"], width=self._contour)

        inside = Image.new("L", size)
        ImageDraw.Draw(inside).polygon(points, fill=255)
        on_fabric = ImageChops.darker(inside, self._fabric)
        self._canvas.image.paste(band, (0, 0), on_fabric)


def _draw_mark(
    image: Image.Image,
    mark: Mark,
    place: MarkPlace,
    matrix: Float[np.ndarray, "3 3"],
    unit: float,
    *,
    mirrored: bool,
) -> None:
    """Draw a letter, a number or a filled mark with a rim that contrasts with its colour."""
    draw = ImageDraw.Draw(image)
    colour = COLOURS[mark.colour]
    luminance = float(np.dot(colour, (0.3, 0.59, 0.11)))
    rim_colour = _INK if luminance > 130.0 else _CHALK
    rim = max(1, round(0.05 * unit))
    centre = np.array([-place.x if mirrored else place.x, place.y])

    if not mark.symbol:
        outline = centre + 1.05 * place.size * mark_polygon(mark.shape)
        points = pixel_pairs(project(matrix, outline))
        closed = [*points, *points[:2]]
        draw.line(closed, fill=rim_colour, width=2 * rim, joint="curve")
        draw.polygon(points, fill=colour)
        return

    pen = max(1, round(0.42 * place.size * unit))
    strokes = []
    for stroke in glyph_strokes(mark.symbol):
        line = centre + 0.92 * place.size * stroke
        strokes.append(pixel_pairs(project(matrix, line)))

    # All rims first: the rim of one stroke must not cover another stroke.
    for points in strokes:
        _stroke(draw, points, rim_colour, pen + 2 * rim)
    for points in strokes:
        _stroke(draw, points, colour, pen)


def _texture(
    box: tuple[int, int, int, int], look: Look, matrix: Float[np.ndarray, "3 3"]
) -> Image.Image:
    """Draw the pattern in a box of pixels, as it lies on the object in this view."""
    left, upper, right, lower = box
    inverse = np.linalg.inv(matrix).astype(np.float32)

    # Object coordinates of every pixel's centre.
    column = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5)
    row = np.arange(upper, lower, dtype=np.float32)[:, None] + np.float32(0.5)
    depth = inverse[2, 0] * column + (inverse[2, 1] * row + inverse[2, 2])
    x = (inverse[0, 0] * column + (inverse[0, 1] * row + inverse[0, 2])) / depth
    y = (inverse[1, 0] * column + (inverse[1, 1] * row + inverse[1, 2])) / depth

    mask = pattern_mask(look.pattern, x, y, look.period)
    colours = np.array([look.main, look.second], dtype=np.uint8)
    return Image.fromarray(colours[mask.astype(np.uint8)])


def _paints(look: Look) -> Mapping[Paint, Rgb]:
    return {
        "fabric": look.main,
        "main": look.main,
        "second": look.second,
        "deep": mixed(look.main, _INK, 0.3),
        "hollow": mixed(look.main, _INK, 0.6),
        "ink": mixed(look.main, _INK, 0.78),
        "pale": (246, 241, 230),
        "metal": (186, 192, 200),
        "wood": (168, 120, 78),
    }


def _stroke(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], fill: Rgb | int, width: int
) -> None:
    """Draw a line with round ends."""
    draw.line(points, fill=fill, width=width, joint="curve")

    radius = width / 2.0
    for x, y in (points[0], points[-1]):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
