"""Draw reliability diagrams: whether probabilities are what is observed."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from clipreid_kit._checks import fail
from clipreid_kit.viz._canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_LEFT, _RIGHT, _TOP, _BOTTOM = 0.75, 0.3, 0.62, 0.55  # margins in inches
_BARS, _GAP = 0.85, 0.22  # height of the lower panel, and what separates it from the upper one


@runtime_checkable
class Bin(Protocol):
    """Pairs with a similar predicted probability."""

    @property
    def low(self) -> float:
        """Lowest probability of the bin."""
        ...

    @property
    def high(self) -> float:
        """Highest probability of the bin."""
        ...

    @property
    def share(self) -> float:
        """Share of all pairs that fall into it."""
        ...

    @property
    def predicted(self) -> float:
        """Their mean predicted probability."""
        ...

    @property
    def observed(self) -> float:
        """The share of them that shows the same identity."""
        ...


@runtime_checkable
class Reliability(Protocol):
    """Bins and their error, as a ``Calibration`` has them."""

    @property
    def reliability(self) -> Sequence[Bin]:
        """The bins, ascending."""
        ...

    @property
    def calibration_error(self) -> float:
        """Expected calibration error."""
        ...


def reliability_figure(
    calibration: Reliability,
    *,
    theme: Theme = "light",
    size: tuple[float, float] = (4.6, 5.2),
) -> "matplotlib.figure.Figure":
    """Draw a reliability diagram: predicted probabilities against what was observed.

    Use it to see where a calibration can be trusted. Points on the diagonal are right; below it,
    probabilities are too high. Bars show, on a logarithmic axis, how many pairs each point rests
    on: most pairs of a gallery are of different identities, and far at the left.

    Args:
        calibration: A ``Calibration``, or anything with its ``reliability`` and
            ``calibration_error``; of two cameras, ``calibration.of_cameras(1, 2)``.
        theme: ``"light"`` or ``"dark"``, the colours of the page.
        size: Width and height in inches.

    Returns:
        A figure with two panels in percent; show it with ``figure_png`` or ``save_figure``.

    Raises:
        ValueError: If there are no bins, or one leaves [0, 1].
        ImportError: If matplotlib is not installed.

    Example:
        >>> from types import SimpleNamespace
        >>> low = SimpleNamespace(low=0.0, high=0.1, share=0.9, predicted=0.02, observed=0.01)
        >>> high = SimpleNamespace(low=0.9, high=1.0, share=0.1, predicted=0.95, observed=0.9)
        >>> found = SimpleNamespace(reliability=[low, high], calibration_error=0.014)
        >>> figure = reliability_figure(found)
        >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
        [[0.0, 100.0], [1.0, 90.0]]
    """
    owner = "reliability_figure"
    palette = palette_of(owner, theme)
    bins = list(calibration.reliability)
    _check_bins(owner, bins)

    with own_style(owner):
        figure = blank_figure(owner, size, palette)
        width, height = size
        inner = width - _LEFT - _RIGHT
        first = _BOTTOM + _BARS + _GAP
        curve = plot_panel(figure, (_LEFT, first, inner, height - first - _TOP), palette)
        bars = plot_panel(figure, (_LEFT, _BOTTOM, inner, _BARS), palette)

        _draw_curve(curve, bins, palette)
        _draw_bars(bars, bins, palette)
        _write_title(figure, calibration.calibration_error, palette)

    return figure


def _check_bins(owner: str, bins: Sequence[Bin]) -> None:
    """Raise ValueError if there is nothing to draw, or a value is no fraction."""
    if not bins:
        raise fail(owner, "a calibration with bins", "none")

    for part in bins:
        values = (part.low, part.high, part.share, part.predicted, part.observed)
        if not all(math.isfinite(value) and 0 <= value <= 1 + 1e-9 for value in values):
            raise fail(owner, "bins within [0, 1]", values, "Pass fractions, not percent.")


def _draw_curve(axes: "matplotlib.axes.Axes", bins: Sequence[Bin], palette: Palette) -> None:
    """Draw observed shares over predicted probabilities, and the diagonal."""
    axes.plot([0.0, 100.0], [0.0, 100.0], color=palette.muted, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.plot(
        [100 * part.predicted for part in bins],
        [100 * part.observed for part in bins],
        color=palette.series[1],
        linewidth=2.0,
        marker="o",
        markersize=6,
        clip_on=False,
    )

    percents = range(0, 101, 20)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xticks(percents, [""] * len(percents))
    axes.set_yticks(percents)
    axes.set_ylabel("observed (%)", color=palette.muted, fontsize=9)


def _draw_bars(axes: "matplotlib.axes.Axes", bins: Sequence[Bin], palette: Palette) -> None:
    """Draw the share of the pairs in each bin, on a logarithmic axis."""
    shares = [100 * part.share for part in bins]
    least = 10.0 ** math.floor(math.log10(min(share for share in shares if share > 0) / 2))
    axes.set_yscale("log")
    axes.bar(
        [50 * (part.low + part.high) for part in bins],
        shares,
        width=[92 * (part.high - part.low) for part in bins],
        color=palette.series[0],
    )

    axes.set_xlim(0, 100)
    axes.set_ylim(least, 100)
    axes.set_yticks([least, 100], [f"{least:g}", "100"])
    axes.minorticks_off()
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("predicted probability of the same identity (%)", color=palette.muted)
    axes.xaxis.label.set_fontsize(9)
    axes.set_ylabel("pairs (%)", color=palette.muted, fontsize=9)


def _write_title(figure: "matplotlib.figure.Figure", error: float, palette: Palette) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        0.12 / width,
        1 - 0.12 / height,
        "Pairs that show the same identity: predicted and observed",
        color=palette.text,
        fontsize=10,
        verticalalignment="top",
    )
    figure.text(
        0.12 / width,
        1 - 0.34 / height,
        f"calibration error {100 * error:.2f} % on held-out identities",
        color=palette.muted,
        fontsize=9,
        verticalalignment="top",
    )
