"""Draw ranked lists: each query with its gallery images, matches and non-matches marked."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import UInt8
from numpy import ndarray

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.viz._canvas import blank_figure, own_style
from clipreid_kit.viz._ranked_cells import (
    CHARACTER_INCHES,
    Cell,
    draw_gallery_image,
    draw_query,
    draw_separator,
    write_text,
)
from clipreid_kit.viz.image_pixels import ImageLike, rgb_pixels
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.figure

_OWNER = "ranked_list_figure"

# Lengths in inches.
_MARGIN = 0.2
_GAP = 0.12  # between images
_HEAD = 0.22  # above an image, for its rank
_FOOT = 0.2  # below an image, for its similarity
_LINE = 0.165  # of a title or a caption

_TITLE_POINTS = 8.5


class _Row(NamedTuple):
    """One query and its gallery images."""

    query: str | UInt8[ndarray, "_ _ 3"]
    gallery: list[UInt8[ndarray, "_ _ 3"]]
    matches: Sequence[bool]
    similarities: Sequence[float] | None
    title: str
    caption: str


def ranked_list_figure(
    queries: Sequence[ImageLike | str],
    galleries: Sequence[Sequence[ImageLike]],
    matches: Sequence[Sequence[bool]],
    *,
    similarities: Sequence[Sequence[float]] | None = None,
    titles: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    max_columns: int = 10,
    theme: Theme = "light",
) -> "matplotlib.figure.Figure":
    """Draw each query on the left and its gallery images on the right, best first.

    A match has a green frame and a check mark, a non-match a red, dashed frame and a cross, so
    colour is not needed to distinguish them. Use it to see which identities a model confuses.

    Args:
        queries: Images, or sentences for text queries; the two may be mixed.
        galleries: For each query its gallery images in order of rank, at least one.
        matches: For each query and each of its gallery images, whether it shows the query's
            identity.
        similarities: For each gallery image the number to write below it; ``None`` writes none.
        titles: A short heading for each query; ``None`` for no headings.
        captions: A line of smaller text for each query; ``None`` for none.
        max_columns: Maximum number of images side by side, >= 1; further images are on further
            lines.
        theme: ``"light"`` or ``"dark"``, the colours of the page.

    Returns:
        A figure as large as its content; its axes have the labels ``query 0``, ``gallery 0 rank 1``
        and so on.

    Raises:
        ValueError: If there is no query, lengths disagree, a list is empty, or an image cannot be
            read.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import PIL.Image
        >>> red, blue = (PIL.Image.new("RGB", (32, 64), colour) for colour in ("red", "blue"))
        >>> figure = ranked_list_figure(["a red coat"], [[red, blue]], [[True, False]])
        >>> [axes.get_label() for axes in figure.axes]
        ['query 0', 'gallery 0 rank 1', 'gallery 0 rank 2']
    """
    check_integer(_OWNER, "max_columns", max_columns, 1)
    if len(queries) == 0:
        raise fail(_OWNER, "at least one query", "none")
    for name, values in (
        ("galleries", galleries),
        ("matches", matches),
        ("similarities", similarities),
        ("titles", titles),
        ("captions", captions),
    ):
        _check_length(name, values, "queries", len(queries))

    rows = []
    for index, query in enumerate(queries):
        of_images = None if similarities is None else similarities[index]
        _check_gallery(index, galleries[index], matches[index], of_images)
        rows.append(
            _Row(
                _query_pixels(index, query),
                _gallery_pixels(index, galleries[index]),
                matches[index],
                of_images,
                "" if titles is None else titles[index],
                "" if captions is None else captions[index],
            )
        )

    return _draw_rows(rows, _choose_layout(rows, max_columns), palette_of(_OWNER, theme))


def _query_pixels(index: int, query: ImageLike | str) -> str | UInt8[ndarray, "_ _ 3"]:
    if isinstance(query, str):
        return query

    return rgb_pixels(_OWNER, f"queries[{index}]", query)


def _gallery_pixels(index: int, gallery: Sequence[ImageLike]) -> list[UInt8[ndarray, "_ _ 3"]]:
    pixels = []
    for rank, image in enumerate(gallery):
        pixels.append(rgb_pixels(_OWNER, f"galleries[{index}][{rank}]", image))

    return pixels


class _Layout(NamedTuple):
    """The arrangement of a figure, in inches.

    Attributes:
        width: Width of a gallery image's cell.
        height: Height of a cell.
        query_width: Width of a query's cell.
        columns: Number of gallery images side by side.
        foot: Space below a gallery image.
    """

    width: float
    height: float
    query_width: float
    columns: int
    foot: float

    @property
    def first_column(self) -> float:
        """Left edge of the first gallery image."""
        return _MARGIN + self.query_width + 4 * _GAP

    @property
    def total_width(self) -> float:
        """Width of the figure."""
        return self.first_column + self.columns * (self.width + _GAP) - _GAP + _MARGIN

    @property
    def line_height(self) -> float:
        """Height of one line of gallery images, with ranks and similarities."""
        return _HEAD + self.height + self.foot

    def heading(self, text: str) -> list[str]:
        """Wrap a title or a caption."""
        columns = int((self.total_width - 2 * _MARGIN) / (_TITLE_POINTS * CHARACTER_INCHES))
        return textwrap.wrap(text, columns)

    def row_height(self, row: _Row) -> float:
        """Height of a query's row, headings included."""
        num_headings = len(self.heading(row.title)) + len(self.heading(row.caption))
        num_lines = math.ceil(len(row.gallery) / self.columns)
        return num_headings * _LINE + num_lines * (self.line_height + _GAP) - _GAP

    def cell(self, top: float, position: int) -> Cell:
        """Place of a gallery image, counted from 0, in a row that begins at ``top``."""
        line, column = divmod(position, self.columns)
        left = self.first_column + column * (self.width + _GAP)
        below = line * (self.line_height + _GAP)
        return Cell(left, top + below + _HEAD, self.width, self.height)


def _choose_layout(rows: Sequence[_Row], max_columns: int) -> _Layout:
    # The cells have the shape of the median image.
    aspects = []
    for row in rows:
        aspects += [image.shape[0] / image.shape[1] for image in row.gallery]
    median = sorted(aspects)[len(aspects) // 2]
    aspect = min(max(median, 0.5), 2.5)

    width = 1.05 / math.sqrt(aspect)
    has_text = any(isinstance(row.query, str) for row in rows)
    return _Layout(
        width=width,
        height=1.05 * math.sqrt(aspect),
        query_width=max(width, 1.75) if has_text else width,
        columns=min(max_columns, max(len(row.gallery) for row in rows)),
        foot=0.0 if rows[0].similarities is None else _FOOT,
    )


def _draw_rows(
    rows: Sequence[_Row], layout: _Layout, palette: Palette
) -> "matplotlib.figure.Figure":
    heights = [layout.row_height(row) for row in rows]
    total_height = sum(heights) + 2 * _GAP * (len(rows) - 1) + 2 * _MARGIN

    with own_style(_OWNER):
        figure = blank_figure(_OWNER, (layout.total_width, total_height), palette)

        top = _MARGIN
        for index, (row, height) in enumerate(zip(rows, heights, strict=True)):
            _draw_row(figure, index, row, top, layout, palette)
            top += height + 2 * _GAP

    return figure


def _draw_row(
    figure: "matplotlib.figure.Figure",
    index: int,
    row: _Row,
    top: float,
    layout: _Layout,
    palette: Palette,
) -> None:
    bottom = top + layout.row_height(row)

    for line in layout.heading(row.title):
        corner = (_MARGIN, top)
        write_text(figure, line, corner, palette.text, size=_TITLE_POINTS, weight="bold")
        top += _LINE
    for line in layout.heading(row.caption):
        write_text(figure, line, (_MARGIN, top), palette.muted, size=_TITLE_POINTS)
        top += _LINE

    query_cell = Cell(_MARGIN, top + _HEAD, layout.query_width, layout.height)
    write_text(figure, "query", (query_cell.middle, top + 0.05), palette.muted, centred=True)
    draw_query(figure, f"query {index}", row.query, query_cell, palette)
    draw_separator(figure, layout.first_column - 2 * _GAP, top, bottom, palette)

    for position, pixels in enumerate(row.gallery):
        rank = position + 1
        cell = layout.cell(top, position)
        above = (cell.middle, cell.top - _HEAD + 0.05)
        write_text(figure, f"{rank}", above, palette.muted, centred=True)

        label = f"gallery {index} rank {rank}"
        is_match = bool(row.matches[position])
        draw_gallery_image(figure, label, pixels, cell, palette, is_match=is_match)

        if row.similarities is not None:
            similarity = f"{float(row.similarities[position]):.2f}"
            below = (cell.middle, cell.top + cell.height + 0.06)
            write_text(figure, similarity, below, palette.muted, centred=True)


def _check_length(name: str, values: Sequence[object] | None, other: str, expected: int) -> None:
    if values is not None and len(values) != expected:
        raise fail(_OWNER, f"{name} of the length of {other}, {expected}", len(values))


def _check_gallery(
    index: int,
    gallery: Sequence[ImageLike],
    matches: Sequence[bool],
    similarities: Sequence[float] | None,
) -> None:
    other = f"galleries[{index}]"
    if len(gallery) == 0:
        raise ValueError(f"{_OWNER}: {other} has no image. Leave that query out.")

    _check_length(f"matches[{index}]", matches, other, len(gallery))
    _check_length(f"similarities[{index}]", similarities, other, len(gallery))
