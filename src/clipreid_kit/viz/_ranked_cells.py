"""Draw the pieces of a ranked list: a query, a gallery image, a line of text, placed in inches."""

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
    """Place of a query or a gallery image, in inches from the top left corner of the figure."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Horizontal centre."""
        return self.left + self.width / 2


def write_text(
    figure: "matplotlib.figure.Figure",
    text: str,
    position: tuple[float, float],
    colour: str,
    *,
    size: float = 8,
    weight: str = "normal",
    centred: bool = False,
) -> None:
    """Write one line of plain text at ``position``, in inches from the top left corner."""
    width, height = figure.get_size_inches()
    left, top = position
    figure.text(
        left / width,
        1 - top / height,
        text,
        color=colour,
        fontsize=size,
        fontweight=weight,
        horizontalalignment="center" if centred else "left",
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
    """Draw a query: an image in a muted frame, or a sentence on a tinted background."""
    axes = _axes(figure, label, cell)
    axes.set_facecolor(palette.panel)
    axes.spines[:].set_color(palette.muted)

    if isinstance(query, str):
        axes.spines[:].set_linewidth(1)
        axes.spines[:].set_visible(False)
        _write_sentence(axes, query, cell, palette)
    else:
        axes.spines[:].set_linewidth(1.6)
        axes.imshow(query)


def draw_gallery_image(
    figure: "matplotlib.figure.Figure",
    label: str,
    pixels: UInt8[ndarray, "h w 3"],
    cell: Cell,
    palette: Palette,
    *,
    is_match: bool,
) -> None:
    """Draw a gallery image with a frame and a mark that show whether it is a match."""
    colour = palette.right if is_match else palette.wrong

    axes = _axes(figure, label, cell)
    axes.imshow(pixels)
    axes.spines[:].set_color(colour)
    axes.spines[:].set_linewidth(2.4)
    axes.spines[:].set_linestyle("solid" if is_match else (0, (2.2, 1.1)))
    axes.spines[:].set_capstyle("projecting" if is_match else "butt")

    axes.annotate(
        "✓" if is_match else "✗",
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
    """Draw the vertical line between the query and the gallery images."""
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


def _write_sentence(
    axes: "matplotlib.axes.Axes", sentence: str, cell: Cell, palette: Palette
) -> None:
    """Write a sentence in the largest of three sizes that fits; the smallest may truncate it."""
    for size in (9.0, 8.0, 7.0):
        columns = max(1, int((cell.width - 0.2) / (size * CHARACTER_INCHES)))
        max_lines = max(1, int((cell.height - 0.1) / (size * 1.25 / 72)))
        lines = textwrap.wrap(sentence, columns, max_lines=max_lines, placeholder=" …")
        if len(textwrap.wrap(sentence, columns)) <= max_lines:
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
