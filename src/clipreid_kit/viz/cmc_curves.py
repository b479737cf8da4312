"""Draw CMC curves: how often a match is among the first k gallery images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.viz._canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz._line_labels import label_width, write_labels
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

Curve = Sequence[float] | Float[np.ndarray, " _"] | Float[torch.Tensor, " _"]

# Counted from the last curve, which is the main one and solid.
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2)))

_TICKS = (1, 5, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
_LEFT, _BOTTOM, _TOP = 1.2, 0.5, 0.42  # margins in inches


def cmc_figure(
    curves: Mapping[str, Curve],
    *,
    max_rank: int = 20,
    theme: Theme = "light",
    size: tuple[float, float] = (6.4, 3.8),
) -> "matplotlib.figure.Figure":
    """Draw cumulative matching characteristics, labelled with their names and their Rank-1.

    Use it to compare a model before and after training, or several models on one test set.

    Args:
        curves: Curves by name, drawn in this order; element ``k - 1`` is the fraction of queries,
            in [0, 1], with a match among the first ``k``, as in ``ReidResult.cmc``.
        max_rank: Last rank on the axis, >= 1; a shorter curve ends earlier.
        theme: ``"light"`` or ``"dark"``, the colours of the page.
        size: Width and height in inches.

    Returns:
        A figure with one panel in percent, from 0 to 100; show it with ``figure_png`` or
        ``save_figure``.

    Raises:
        ValueError: If there is no curve, or one is empty, leaves [0, 1] or decreases.
        ImportError: If matplotlib is not installed.

    Example:
        >>> figure = cmc_figure({"before": [0.2, 0.4, 0.5], "after": [0.8, 0.9, 1.0]})
        >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
        [[20.0, 40.0, 50.0], [80.0, 90.0, 100.0]]
    """
    owner = "cmc_figure"
    check_integer(owner, "max_rank", max_rank, 1)
    if not curves:
        raise fail(owner, "at least one curve", "none")

    palette = palette_of(owner, theme)
    percents = {name: 100 * _checked(name, curve)[:max_rank] for name, curve in curves.items()}
    last_rank = max(len(percent) for percent in percents.values())

    with own_style(owner):
        figure = blank_figure(owner, size, palette)
        width, height = size
        right = 0.3 + label_width(list(percents))
        box = (_LEFT, _BOTTOM, width - _LEFT - right, height - _BOTTOM - _TOP)
        axes = plot_panel(figure, box, palette)

        _draw_axes(axes, last_rank, palette)
        figure.text(
            0.12 / width,
            1 - 0.12 / height,
            "Queries with a right match among the first k (%)",
            color=palette.text,
            fontsize=10,
            verticalalignment="top",
        )
        _draw_curves(figure, axes, percents, palette)

    return figure


def _draw_axes(axes: "matplotlib.axes.Axes", last_rank: int, palette: Palette) -> None:
    axes.set_xlim(1, max(last_rank, 2))
    axes.set_xticks([rank for rank in _TICKS if rank <= last_rank])
    axes.set_xlabel("rank k", color=palette.muted, fontsize=9)

    percents = range(0, 101, 20)
    axes.set_ylim(0, 100)
    axes.set_yticks(percents, [f"{percent}" for percent in percents])
    axes.tick_params(axis="y", pad=54)


def _draw_curves(
    figure: "matplotlib.figure.Figure",
    axes: "matplotlib.axes.Axes",
    percents: Mapping[str, Float[np.ndarray, " _"]],
    palette: Palette,
) -> None:
    """Draw the curves, their names at the right and their Rank-1 at the left."""
    colours, starts, ends = [], [], []
    for index, percent in enumerate(percents.values()):
        colour = palette.series[index % len(palette.series)]
        from_last = len(percents) - 1 - index
        axes.plot(
            range(1, len(percent) + 1),
            percent,
            color=colour,
            linewidth=2.2,
            linestyle=_DASHES[from_last % len(_DASHES)],
            marker="o",
            markevery=[0],
            markersize=6,
            clip_on=False,
            solid_capstyle="round",
        )

        colours.append(colour)
        starts.append((1.0, float(percent[0])))
        ends.append((float(len(percent)), float(percent[-1])))

    write_labels(figure, axes, list(percents), ends, colours, gap=0.17)
    rank_1 = [f"Rank-1\n{percent:.1f}%" for _, percent in starts]
    write_labels(figure, axes, rank_1, starts, colours, gap=0.32, offset=-7.0)


def _checked(name: str, curve: Curve) -> Float[np.ndarray, " k"]:
    """Convert a curve to float64, and raise ValueError if it is no CMC."""
    owner = "cmc_figure"
    values = torch.as_tensor(curve, dtype=torch.float64, device="cpu").detach().numpy()
    if values.ndim != 1 or len(values) == 0:
        raise fail(owner, f"curve {name!r} as one row of fractions", f"shape {values.shape}")

    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        got = f"values from {values.min():g} to {values.max():g}"
        raise fail(owner, f"curve {name!r} within [0, 1]", got, "Pass fractions, not percent.")

    falls = np.diff(values) < -1e-9
    if falls.any():
        rank = int(np.argmax(falls)) + 1
        raise ValueError(
            f"{owner}: curve {name!r} decreases from {values[rank - 1]:g} at rank {rank} to "
            f"{values[rank]:g} at rank {rank + 1}. A CMC counts the matches up to rank k; pass "
            "ReidResult.cmc unchanged."
        )

    return values
