"""Create matplotlib figures without pyplot, independently of the caller's settings."""

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from clipreid_kit._checks import fail
from clipreid_kit.viz.themes import Palette

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# The groups of settings that affect a drawing; backends, key maps and windows are left alone.
# fmt: off
_DRAWING_SETTINGS = (
    "agg", "axes", "figure", "font", "grid", "image", "lines", "markers", "mathtext", "patch",
    "path", "pdf", "savefig", "svg", "text", "xaxis", "xtick", "yaxis", "ytick",
)
# fmt: on

# Text stays text in PDF and SVG, and the names inside an SVG do not change from run to run.
_OWN_SETTINGS = {"svg.hashsalt": "clipreid_kit", "svg.fonttype": "none", "pdf.fonttype": 42}


@contextlib.contextmanager
def own_style(owner: str) -> Iterator[None]:
    """Draw with matplotlib's built-in defaults; the caller's settings are restored on exit.

    Args:
        owner: The public function that draws, for the error text.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError(
            f"{owner} needs matplotlib. Install it with: pip install clipreid_kit[viz]"
        ) from error

    settings: dict[str, object] = {}
    for key, value in mpl.rcParamsDefault.items():
        group = key.partition(".")[0]
        if group in _DRAWING_SETTINGS and key != "savefig.directory":
            settings[key] = value
    settings |= _OWN_SETTINGS

    with mpl.rc_context(settings):
        yield


def blank_figure(
    owner: str, size: tuple[float, float], palette: Palette
) -> "matplotlib.figure.Figure":
    """Create an empty figure of ``size`` inches on an Agg canvas, within :func:`own_style`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not all(math.isfinite(side) and 1 <= side <= 200 for side in size):
        raise fail(owner, "size as (width, height), each from 1 to 200 inches", size)

    figure = Figure(figsize=size, facecolor=palette.surface)
    FigureCanvasAgg(figure)
    return figure


def plot_panel(
    figure: "matplotlib.figure.Figure", box: tuple[float, float, float, float], palette: Palette
) -> "matplotlib.axes.Axes":
    """Add axes at ``box`` (left, bottom, width, height in inches) with a pale horizontal grid."""
    figure_width, figure_height = figure.get_size_inches()
    left, bottom, width, height = box
    width, height = max(width, 0.3), max(height, 0.3)
    axes = figure.add_axes(
        (
            left / figure_width,
            bottom / figure_height,
            width / figure_width,
            height / figure_height,
        )
    )

    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(palette.muted)
    axes.tick_params(colors=palette.muted, labelsize=9, length=0)
    axes.tick_params(axis="x", length=3, width=0.8)
    axes.grid(axis="y", color=palette.grid, linewidth=0.9)
    axes.set_axisbelow(True)
    return axes
