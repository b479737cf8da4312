"""The pieces of a ranked list: a query, an image found, a line of text, all placed in inches."""

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import UInt8
from numpy import ndarray

from clipreid_kit.viz.themes import Palette

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

CHARACTER_INCHES = 0.0078  # for each point of font size, an average for DejaVu Sans


class Cell(NamedTuple):
    """Where a query or an image found stands, in inches from the top left corner of the figure."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Halfway across."""
        return self.left + self.width / 2


def _axes(figure: "matplotlib.figure.Figure", label: str, cell: Cell) -> "matplotlib.axes.Axes":
    width, height = figure.get_size_inches()
    box = (
        cell.left / width,
        1 - (cell.top + cell.height) / height,
        cell.width / width,
        cell.height / height,
    )
    axes = figure.add_axes(box, label=label, xticks=[], yticks=[])
    axes.set_anchor("S")
    return axes


def write_text(
    figure: "matplotlib.figure.Figure",
    text: str,
    place: tuple[float, float],
    colour: str,
    *,
    size: float = 8,
    weight: str = "normal",
    centred: bool = False,
) -> None:
    """Write one line of plain text, ``place`` inches from the top left corner."""
    width, height = figure.get_size_inches()
    alignment = "center" if centred else "left"
    figure.text(
        place[0] / width,
        1 - place[1] / height,
        text,
        color=colour,
        fontsize=size,
        fontweight=weight,
        horizontalalignment=alignment,
        verticalalignment="top",
        parse_math=False,
    )


def draw_query(
    figure: "matplotlib.figure.Figure",
    label: str,
    query: str | UInt8[ndarray, "h w 3"],
    cell: Cell,
    palette: Palette,
) -> None:
    """Draw a query: an image in a quiet frame, or a sentence on a tinted ground."""
    axes = _axes(figure, label, cell)
    axes.set_facecolor(palette.panel)
    axes.spines[:].set_color(palette.muted)
    axes.spines[:].set_linewidth(1 if isinstance(query, str) else 1.6)
    if not isinstance(query, str):
        axes.imshow(query)
        return
    axes.spines[:].set_visible(False)
    for size in (9.0, 8.0, 7.0):
        columns = max(1, int((cell.width - 0.2) / (size * CHARACTER_INCHES)))
        most = max(1, int((cell.height - 0.1) / (size * 1.25 / 72)))
        lines = textwrap.wrap(query, columns, max_lines=most, placeholder=" …")
        if len(textwrap.wrap(query, columns)) <= most:
            break
    axes.text(
        0.5,
        0.5,
        "\n".join(lines),
        transform=axes.transAxes,
        color=palette.text,
        fontsize=size,
        linespacing=1.2,
        horizontalalignment="center",
        verticalalignment="center",
        parse_math=False,
    )


def draw_found(
    figure: "matplotlib.figure.Figure",
    label: str,
    pixels: UInt8[ndarray, "h w 3"],
    cell: Cell,
    palette: Palette,
    *,
    right: bool,
) -> None:
    """Draw an image found, with its frame and its mark."""
    colour = palette.right if right else palette.wrong
    axes = _axes(figure, label, cell)
    axes.imshow(pixels)
    axes.spines[:].set_color(colour)
    axes.spines[:].set_linewidth(2.4)
    axes.spines[:].set_linestyle("solid" if right else (0, (2.2, 1.1)))
    axes.spines[:].set_capstyle("projecting" if right else "butt")
    axes.annotate(
        "✓" if right else "✗",
        (1, 1),
        xycoords="axes fraction",
        xytext=(-5.5, -5.5),
        textcoords="offset points",
        color=palette.on_mark,
        fontsize=8,
        fontweight="bold",
        horizontalalignment="center",
        verticalalignment="center",
        bbox={"boxstyle": "circle,pad=0.18", "facecolor": colour, "edgecolor": "none"},
    )


def draw_separator(
    figure: "matplotlib.figure.Figure", left: float, top: float, bottom: float, palette: Palette
) -> None:
    """Draw the upright line between the query and what was found."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    line = Line2D(
        [left / width] * 2,
        [1 - top / height, 1 - bottom / height],
        color=palette.grid,
        linewidth=1.2,
        transform=figure.transFigure,
        solid_capstyle="butt",
    )
    figure.add_artist(line)
