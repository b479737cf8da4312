"""Training curves: losses and validation metrics over the epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clipreid_kit._checks import fail
from clipreid_kit.viz.canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz.line_labels import label_width, write_labels
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

Points = list[tuple[int, float]]


def training_figure(
    rows: Sequence[Mapping[str, object]],
    *,
    loss_keys: Mapping[str, str] | Sequence[str] = ("loss",),
    metric_keys: Mapping[str, str] | Sequence[str] = ("mean_ap",),
    best_epoch: int | None = None,
    epoch_key: str = "epoch",
    titles: tuple[str, str] = ("Training loss", "Validation (%)"),
    theme: Theme = "light",
    size: tuple[float, float] = (8.6, 3.4),
) -> "matplotlib.figure.Figure":
    """Draw the losses and the validation metrics of a run, epoch by epoch.

    Use it on the rows of a JSON-lines log, finished or not. The panels stand side by side, or one above the
    other where the figure is higher than wide.

    Args:
        rows: One mapping for each epoch, in order. A key may be missing or ``None`` where nothing was
            measured; the line then runs on to the next value. NaN or an infinite value breaks the line.
        loss_keys: Keys of the first panel; a mapping gives each key the name to write at its line.
        metric_keys: Keys of the second panel, fractions in [0, 1], drawn in percent; may be empty.
        best_epoch: Marked in each panel; ``None`` marks none.
        epoch_key: Key of the epoch number.
        titles: Of the first and of the second panel.
        theme: For a light or a dark page.
        size: Width and height in inches.

    Returns:
        A figure with one panel for the losses and, if there are metrics, one for these.

    Raises:
        ValueError: If there are no rows, epochs do not rise, a key is in no row, a value is not a number, a
            metric leaves [0, 1], or ``best_epoch`` is not among the epochs.
        ImportError: If matplotlib is not installed.

    Example:
        >>> rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5, "mean_ap": 0.25}]
        >>> figure = training_figure(rows, best_epoch=2)
        >>> figure.axes[1].lines[0].get_ydata().tolist()
        [25.0]
    """
    palette = palette_of("training_figure", theme)
    epochs = _epochs(rows, epoch_key)
    if best_epoch is not None and best_epoch not in epochs:
        raise fail("training_figure", f"best_epoch among {epochs[0]} to {epochs[-1]}", best_epoch)
    losses = _lines(rows, epochs, loss_keys)
    metrics = {
        name: _percent(name, points) for name, points in _lines(rows, epochs, metric_keys).items()
    }
    if not losses:
        raise fail("training_figure", "at least one key in loss_keys", "none")
    with own_style("training_figure"):
        figure = blank_figure("training_figure", size, palette)
        boxes = _boxes(size, [list(losses), list(metrics)] if metrics else [list(losses)])
        panels = [plot_panel(figure, box, palette) for box in boxes]
        _draw(figure, panels[0], titles[0], losses, epochs, palette)
        if metrics:
            _draw(figure, panels[1], titles[1], metrics, epochs, palette)
        if best_epoch is not None:
            _mark(panels, best_epoch, palette)
    return figure


def _epochs(rows: Sequence[Mapping[str, object]], key: str) -> list[int]:
    if not rows:
        raise fail("training_figure", "at least one row", "none", "Draw after the first epoch.")
    epochs: list[int] = []
    for index, row in enumerate(rows):
        epoch = row.get(key)
        if isinstance(epoch, bool) or not isinstance(epoch, int):
            raise fail("training_figure", f"an integer under {key!r} in row {index}", repr(epoch))
        if epochs and epoch <= epochs[-1]:
            remedy = "A resumed run writes each epoch once: drop the older row."
            raise fail(
                "training_figure",
                "epochs that rise",
                f"{epoch} after {epochs[-1]} in row {index}",
                remedy,
            )
        epochs.append(epoch)
    return epochs


def _lines(
    rows: Sequence[Mapping[str, object]],
    epochs: Sequence[int],
    keys: Mapping[str, str] | Sequence[str],
) -> dict[str, Points]:
    if isinstance(keys, str):  # a string is a sequence of letters
        raise fail(
            "training_figure", "keys as a sequence or a mapping", repr(keys), f"Write ({keys!r},)."
        )
    names = keys if isinstance(keys, Mapping) else {key: key for key in keys}
    lines: dict[str, Points] = {}
    for key, name in names.items():
        points: Points = []
        for index, (epoch, row) in enumerate(zip(epochs, rows, strict=True)):
            value = row.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise fail("training_figure", f"a number under {key!r} in row {index}", repr(value))
            points.append((epoch, float(value) if math.isfinite(value) else math.nan))
        if not points:
            known = ", ".join(sorted({known for row in rows for known in row}))
            raise fail("training_figure", f"key {key!r} in at least one row", f"rows with {known}")
        lines[name] = points
    return lines


def _percent(name: str, points: Points) -> Points:
    for epoch, value in points:
        if value < 0 or value > 1:
            got = f"{value:g} at epoch {epoch}"
            raise fail(
                "training_figure",
                f"metric {name!r} within [0, 1]",
                got,
                "Log fractions, not percent.",
            )
    return [(epoch, 100 * value) for epoch, value in points]


def _boxes(
    size: tuple[float, float], labels: list[list[str]]
) -> list[tuple[float, float, float, float]]:
    left, bottom, top = 0.55, 0.5, 0.6
    right = [0.25 + label_width(names) for names in labels]
    width, height = size
    if height > width:
        each = height / len(labels)
        lowest = [height - each * (index + 1) + bottom for index in range(len(labels))]
        return [(left, low, width - left - max(right), each - bottom - top) for low in lowest]
    each = width / len(labels)
    panels = zip(range(len(labels)), right, strict=True)
    return [
        (each * index + left, bottom, each - left - free, height - bottom - top)
        for index, free in panels
    ]


def _draw(
    figure: "matplotlib.figure.Figure",
    axes: "matplotlib.axes.Axes",
    title: str,
    lines: Mapping[str, Points],
    epochs: Sequence[int],
    palette: Palette,
) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=10, color=palette.text, pad=20, parse_math=False)
    axes.set_xlabel("epoch", color=palette.muted, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    # the lead line is blue; grey is for the baseline of a comparison
    colours = [palette.series[(index + 1) % len(palette.series)] for index in range(len(lines))]
    for colour, points in zip(colours, lines.values(), strict=True):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        marker = "o" if len(points) <= 20 else ""
        axes.plot(
            xs,
            ys,
            color=colour,
            linewidth=2,
            marker=marker,
            markersize=4,
            clip_on=False,
            solid_capstyle="round",
        )
    axes.set_xlim(epochs[0] - 0.5 * (len(epochs) == 1), epochs[-1] + 0.5 * (len(epochs) == 1))
    values = [y for points in lines.values() for _, y in points if math.isfinite(y)]
    lowest, highest = min([0.0, *values]), max([0.0, *values])
    axes.set_ylim(lowest * 1.05, highest * 1.08 or 1.0)
    ends = {
        name: next(((float(x), y) for x, y in reversed(points) if math.isfinite(y)), None)
        for name, points in lines.items()
    }
    shown = [
        (name, end, colour)
        for (name, end), colour in zip(ends.items(), colours, strict=True)
        if end
    ]
    if shown:
        names, points_at, used = zip(*shown, strict=True)
        write_labels(figure, axes, names, points_at, used, gap=0.17)


def _mark(panels: "list[matplotlib.axes.Axes]", best_epoch: int, palette: Palette) -> None:
    for axes in panels:
        axes.axvline(
            best_epoch, color=palette.muted, linewidth=1, linestyle=(0, (3, 3)), zorder=1.5
        )
    axes = panels[-1]
    low, high = axes.get_xlim()
    late = best_epoch > (low + high) / 2
    axes.annotate(
        f"best: epoch {best_epoch}",
        (best_epoch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if late else 3, 3),
        textcoords="offset points",
        horizontalalignment="right" if late else "left",
        verticalalignment="bottom",
        color=palette.muted,
        fontsize=8.5,
    )
