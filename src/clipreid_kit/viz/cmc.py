"""CMC curves: how often a right match is among the first k."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from clipreid_kit._checks import fail
from clipreid_kit.viz.canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz.line_labels import label_width, write_labels
from clipreid_kit.viz.themes import Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.figure

Curve = Sequence[float] | Float[np.ndarray, " _"] | Float[torch.Tensor, " _"]

# the last curve, the one to look at, is solid
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2)))


def cmc_figure(
    curves: Mapping[str, Curve],
    *,
    max_rank: int = 20,
    theme: Theme = "light",
    size: tuple[float, float] = (6.4, 3.8),
) -> "matplotlib.figure.Figure":
    """Draw cumulative matching characteristics, each with its name and its Rank-1 written at the line.

    Use it to compare a model before and after training, or several models on one test set.

    Args:
        curves: Name to curve, drawn in this order; element ``k - 1`` is the fraction of queries, in [0, 1],
            with a right match among the first ``k``, as in ``ReidResult.cmc``.
        max_rank: Last rank on the axis, 1 or more; a shorter curve ends where it ends.
        theme: For a light or a dark page.
        size: Width and height in inches.

    Returns:
        A figure with one panel in percent, from 0 to 100; show it with ``figure_png`` or ``save_figure``.

    Raises:
        ValueError: If there is no curve, or one is empty, leaves [0, 1] or falls.
        ImportError: If matplotlib is not installed.

    Example:
        >>> figure = cmc_figure({"before": [0.2, 0.4, 0.5], "after": [0.8, 0.9, 1.0]})
        >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
        [[20.0, 40.0, 50.0], [80.0, 90.0, 100.0]]
    """
    if max_rank < 1:
        raise fail("cmc_figure", "max_rank >= 1", max_rank)
    if not curves:
        raise fail("cmc_figure", "at least one curve", "none")
    palette = palette_of("cmc_figure", theme)
    percents = {name: 100 * _checked(name, curve)[:max_rank] for name, curve in curves.items()}
    last = max(len(percent) for percent in percents.values())
    with own_style("cmc_figure"):
        figure = blank_figure("cmc_figure", size, palette)
        left, bottom, top = 1.2, 0.5, 0.42
        right = 0.3 + label_width(list(percents))
        axes = plot_panel(
            figure, (left, bottom, size[0] - left - right, size[1] - bottom - top), palette
        )
        axes.set_xlim(1, max(last, 2))
        axes.set_ylim(0, 100)
        axes.set_xticks(
            [rank for rank in (1, 5, 10, 15, 20, 30, 50, 100, 200, 500, 1000) if rank <= last]
        )
        axes.set_yticks(range(0, 101, 20), [f"{value}" for value in range(0, 101, 20)])
        axes.tick_params(axis="y", pad=54)
        axes.set_xlabel("rank k", color=palette.muted, fontsize=9)
        figure.text(
            0.12 / size[0],
            1 - 0.12 / size[1],
            "Queries with a right match among the first k (%)",
            color=palette.text,
            fontsize=10,
            verticalalignment="top",
        )
        colours = [palette.series[index % len(palette.series)] for index in range(len(percents))]
        for index, percent in enumerate(percents.values()):
            axes.plot(
                range(1, len(percent) + 1),
                percent,
                color=colours[index],
                linewidth=2.2,
                linestyle=_DASHES[(len(percents) - 1 - index) % len(_DASHES)],
                marker="o",
                markevery=[0],
                markersize=6,
                clip_on=False,
                solid_capstyle="round",
            )
        ends = [(float(len(percent)), float(percent[-1])) for percent in percents.values()]
        write_labels(figure, axes, list(percents), ends, colours, gap=0.17)
        starts = [(1.0, float(percent[0])) for percent in percents.values()]
        write_labels(
            figure,
            axes,
            [f"Rank-1\n{y:.1f}%" for _, y in starts],
            starts,
            colours,
            gap=0.32,
            offset=-7.0,
        )
    return figure


def _checked(name: str, curve: Curve) -> Float[np.ndarray, " k"]:
    values = torch.as_tensor(curve, dtype=torch.float64, device="cpu").detach().numpy()
    if values.ndim != 1 or len(values) == 0:
        raise fail("cmc_figure", f"curve {name!r} as one row of fractions", f"shape {values.shape}")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        got = f"values from {values.min():g} to {values.max():g}"
        raise fail(
            "cmc_figure", f"curve {name!r} within [0, 1]", got, "Pass fractions, not percent."
        )
    if (np.diff(values) < -1e-9).any():
        rank = int(np.argmax(np.diff(values) < -1e-9)) + 1
        got = f"{values[rank - 1]:g} at rank {rank} and {values[rank]:g} at rank {rank + 1}"
        remedy = "A CMC counts matches up to rank k; pass ReidResult.cmc as it is."
        raise fail("cmc_figure", f"curve {name!r} that never falls", got, remedy)
    return values
