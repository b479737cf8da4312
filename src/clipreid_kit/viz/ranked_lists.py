"""Ranked lists: each query with what was found for it, right and wrong marked."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import UInt8
from numpy import ndarray

from clipreid_kit._checks import fail
from clipreid_kit.viz.canvas import blank_figure, own_style
from clipreid_kit.viz.pixels import ImageLike, rgb_pixels
from clipreid_kit.viz.ranked_cells import (
    CHARACTER_INCHES,
    Cell,
    draw_found,
    draw_query,
    draw_separator,
    write_text,
)
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.figure

_MARGIN, _GAP, _HEAD, _FOOT, _LINE = 0.2, 0.12, 0.22, 0.2, 0.165  # inches
_TITLE_POINTS = 8.5


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
    """Draw queries on the left and what was found for each on the right, best first.

    A right one has a green frame and a check mark, a wrong one a red, dashed frame and a cross, so colour is
    not needed to tell them apart. Use it to see what a model confuses.

    Args:
        queries: Images, or sentences for text queries; the two may be mixed.
        galleries: For each query the images found, in order of rank; one or more, any number.
        matches: For each query and each of its images, whether it shows the query's identity.
        similarities: For each image the number to write below it; ``None`` writes none.
        titles: A short heading for each query; ``None`` for no headings.
        captions: A line of smaller text for each query; ``None`` for none.
        max_columns: Images side by side, 1 or more; more are set on further lines.
        theme: For a light or a dark page.

    Returns:
        A figure as large as its content; axes carry the labels ``query 0``, ``gallery 0 rank 1`` and so on.

    Raises:
        ValueError: If there is no query, lengths disagree, a list is empty, or an image cannot be read.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import PIL.Image
        >>> red, blue = (PIL.Image.new("RGB", (32, 64), colour) for colour in ("red", "blue"))
        >>> figure = ranked_list_figure(["a red coat"], [[red, blue]], [[True, False]])
        >>> [axes.get_label() for axes in figure.axes]
        ['query 0', 'gallery 0 rank 1', 'gallery 0 rank 2']
    """
    owner = "ranked_list_figure"
    _check(queries, galleries, matches, similarities, titles, captions)
    if max_columns < 1:
        raise fail(owner, "max_columns >= 1", max_columns)
    palette = palette_of(owner, theme)
    rows = [
        _Row(
            query if isinstance(query, str) else rgb_pixels(owner, f"queries[{row}]", query),
            [
                rgb_pixels(owner, f"galleries[{row}][{rank}]", image)
                for rank, image in enumerate(galleries[row])
            ],
            matches[row],
            similarities[row] if similarities is not None else None,
            titles[row] if titles is not None else "",
            captions[row] if captions is not None else "",
        )
        for row, query in enumerate(queries)
    ]
    layout = _laid_out(rows, max_columns)
    heights = [layout.row_height(row) for row in rows]
    with own_style(owner):
        height = sum(heights) + 2 * _GAP * (len(rows) - 1) + 2 * _MARGIN
        figure = blank_figure(owner, (layout.total_width, height), palette)
        top = _MARGIN
        for index, row in enumerate(rows):
            _draw_row(figure, index, row, top, layout, palette)
            top += heights[index] + 2 * _GAP
    return figure


class _Row(NamedTuple):
    query: str | UInt8[ndarray, "_ _ 3"]
    found: list[UInt8[ndarray, "_ _ 3"]]
    matches: Sequence[bool]
    similarities: Sequence[float] | None
    title: str
    caption: str


class _Layout(NamedTuple):
    """Inches: one cell's size, where the first one found stands, and how many stand side by side."""

    width: float
    height: float
    query_width: float
    columns: int
    foot: float

    @property
    def first(self) -> float:
        return _MARGIN + self.query_width + 4 * _GAP

    @property
    def total_width(self) -> float:
        return self.first + self.columns * (self.width + _GAP) - _GAP + _MARGIN

    @property
    def line_height(self) -> float:
        return _HEAD + self.height + self.foot

    def heading(self, text: str) -> list[str]:
        columns = int((self.total_width - 2 * _MARGIN) / (_TITLE_POINTS * CHARACTER_INCHES))
        return textwrap.wrap(text, columns)

    def row_height(self, row: _Row) -> float:
        lines = math.ceil(len(row.found) / self.columns)
        headings = len(self.heading(row.title)) + len(self.heading(row.caption))
        return headings * _LINE + lines * (self.line_height + _GAP) - _GAP

    def cell(self, top: float, place: int) -> Cell:
        left = self.first + place % self.columns * (self.width + _GAP)
        below = place // self.columns * (self.line_height + _GAP)
        return Cell(left, top + below + _HEAD, self.width, self.height)


def _laid_out(rows: Sequence[_Row], max_columns: int) -> _Layout:
    aspects = sorted(image.shape[0] / image.shape[1] for row in rows for image in row.found)
    aspect = min(
        max(aspects[len(aspects) // 2], 0.5), 2.5
    )  # the cells' shape is that of a usual image
    width, height = 1.05 / math.sqrt(aspect), 1.05 * math.sqrt(aspect)
    has_text = any(isinstance(row.query, str) for row in rows)
    return _Layout(
        width=width,
        height=height,
        query_width=max(width, 1.75) if has_text else width,
        columns=min(max_columns, max(len(row.found) for row in rows)),
        foot=_FOOT if rows[0].similarities is not None else 0.0,
    )


def _draw_row(
    figure: "matplotlib.figure.Figure",
    index: int,
    row: _Row,
    top: float,
    layout: _Layout,
    palette: Palette,
) -> None:
    bottom = top + layout.row_height(row)
    for text, weight, colour in (
        (row.title, "bold", palette.text),
        (row.caption, "normal", palette.muted),
    ):
        for words in layout.heading(text):
            write_text(figure, words, (_MARGIN, top), colour, size=_TITLE_POINTS, weight=weight)
            top += _LINE
    query = Cell(_MARGIN, top + _HEAD, layout.query_width, layout.height)
    write_text(figure, "query", (query.middle, top + 0.05), palette.muted, centred=True)
    draw_query(figure, f"query {index}", row.query, query, palette)
    draw_separator(figure, layout.first - 2 * _GAP, top, bottom, palette)
    for place, pixels in enumerate(row.found):
        cell = layout.cell(top, place)
        above = (cell.middle, cell.top - _HEAD + 0.05)
        write_text(figure, f"{place + 1}", above, palette.muted, centred=True)
        label = f"gallery {index} rank {place + 1}"
        draw_found(figure, label, pixels, cell, palette, right=bool(row.matches[place]))
        if row.similarities is not None:
            below = (cell.middle, cell.top + cell.height + 0.06)
            write_text(
                figure, f"{float(row.similarities[place]):.2f}", below, palette.muted, centred=True
            )


def _check(
    queries: Sequence[ImageLike | str],
    galleries: Sequence[Sequence[ImageLike]],
    matches: Sequence[Sequence[bool]],
    similarities: Sequence[Sequence[float]] | None,
    titles: Sequence[str] | None,
    captions: Sequence[str] | None,
) -> None:
    owner = "ranked_list_figure"
    if len(queries) == 0:
        raise fail(owner, "at least one query", "none")
    for name, count in (
        ("galleries", len(galleries)),
        ("matches", len(matches)),
        ("similarities", len(queries) if similarities is None else len(similarities)),
        ("titles", len(queries) if titles is None else len(titles)),
        ("captions", len(queries) if captions is None else len(captions)),
    ):
        if count != len(queries):
            raise fail(owner, f"{name} of the length of queries, {len(queries)}", count)
    for row, gallery in enumerate(galleries):
        if len(gallery) == 0:
            raise fail(
                owner, f"at least one image in galleries[{row}]", "none", "Leave that query out."
            )
        for name, given in (("matches", matches), ("similarities", similarities)):
            if given is not None and len(given[row]) != len(gallery):
                expected = f"{name}[{row}] of the length of galleries[{row}], {len(gallery)}"
                raise fail(owner, expected, len(given[row]))
