"""Draw how a rate falls with the share of the images that is hidden."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipreid_kit._checks import fail
from clipreid_kit.viz._canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz._line_labels import label_width, write_labels
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_OWNER = "occlusion_figure"
_LEFT, _BOTTOM, _TOP = 0.6, 0.5, 0.42  # margins in inches


def occlusion_figure(
    curves: Mapping[str, Mapping[float, float]],
    *,
    measure: str = "mAP",
    theme: Theme = "light",
    size: tuple[float, float] = (6.4, 3.8),
) -> "matplotlib.figure.Figure":
    """Draw a rate against the occluded share of the images, a curve for each model or occluder.

    Args:
        curves: Rates in [0, 1] by name and by share of the area in [0, 1], such as
            ``occlusion_curves`` of ``clipreid_kit.reports`` returns for the kinds of occluders.
        measure: Name of the rate, for the heading.
        theme: ``"light"`` or ``"dark"``, the colours of the page.
        size: Width and height in inches.

    Returns:
        A figure with one panel in percent, from 0 to 100; show it with ``figure_png`` or
        ``save_figure``.

    Raises:
        ValueError: If there is no curve, one is empty, or a value leaves [0, 1].
        ImportError: If matplotlib is not installed.

    Example:
        >>> figure = occlusion_figure({"bottom": {0.0: 0.75, 0.5: 0.25}})
        >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
        [[75.0, 25.0]]
    """
    _check_curves(curves)
    palette = palette_of(_OWNER, theme)

    with own_style(_OWNER):
        figure = blank_figure(_OWNER, size, palette)
        width, height = size
        right = 0.3 + label_width(list(curves))
        box = (_LEFT, _BOTTOM, width - _LEFT - right, height - _BOTTOM - _TOP)
        axes = plot_panel(figure, box, palette)

        axes.set_xlim(0, 100 * max(share for curve in curves.values() for share in curve) or 1)
        axes.set_xlabel("occluded share of the area (%)", color=palette.muted, fontsize=9)
        axes.set_ylim(0, 100)
        axes.set_yticks(range(0, 101, 20))
        figure.text(
            0.12 / width,
            1 - 0.12 / height,
            f"{measure} behind occluders (%)",
            color=palette.text,
            fontsize=10,
            verticalalignment="top",
            parse_math=False,
        )
        _draw_curves(figure, axes, curves, palette)
    return figure


def _draw_curves(
    figure: "matplotlib.figure.Figure",
    axes: "matplotlib.axes.Axes",
    curves: Mapping[str, Mapping[float, float]],
    palette: Palette,
) -> None:
    """Draw each curve in percent, and write its name at its end."""
    colours, ends = [], []
    for index, curve in enumerate(curves.values()):
        colour = palette.series[index % len(palette.series)]
        shares = sorted(curve)
        occluded = [100 * share for share in shares]
        rates = [100 * curve[share] for share in shares]

        axes.plot(
            occluded,
            rates,
            color=colour,
            linewidth=2.2,
            marker="o",
            markersize=5,
            clip_on=False,
        )
        colours.append(colour)
        ends.append((occluded[-1], rates[-1]))

    write_labels(figure, axes, list(curves), ends, colours, gap=0.17)


def _check_curves(curves: Mapping[str, Mapping[float, float]]) -> None:
    """Raise ValueError if there is nothing to draw, or a value is no fraction."""
    if not curves:
        raise fail(_OWNER, "at least one curve", "none")

    for name, curve in curves.items():
        if not curve:
            raise fail(_OWNER, f"curve {name!r} with at least one share", "none")
        for value in (*curve, *curve.values()):
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise fail(
                    _OWNER, f"curve {name!r} within [0, 1]", value, "Pass fractions, not percent."
                )
