"""Draw training curves: losses and validation metrics over the epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clipreid_kit._checks import fail
from clipreid_kit.viz._canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz._line_labels import label_width, write_labels
from clipreid_kit.viz.themes import Palette, Theme, palette_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

Points = list[tuple[int, float]]
Box = tuple[float, float, float, float]

_OWNER = "training_figure"
_LEFT, _BOTTOM, _TOP = 0.55, 0.5, 0.6  # margins of a panel in inches


def training_figure(
    rows: Sequence[Mapping[str, object]],
    *,
    loss_keys: Mapping[str, str] | Sequence[str] = ("loss",),
    metric_keys: Mapping[str, str] | Sequence[str] = ("mean_ap",),
    best_epoch: int | None = None,
    best_label: str = "best: epoch {epoch}",
    epoch_key: str = "epoch",
    titles: tuple[str, str] = ("Training loss", "Validation (%)"),
    theme: Theme = "light",
    size: tuple[float, float] = (8.6, 3.4),
) -> "matplotlib.figure.Figure":
    """Draw the losses and the validation metrics of a training run, epoch by epoch.

    Use it on the rows of a JSON-lines log, finished or not. The panels are side by side, or one
    above the other if the figure is taller than wide.

    Args:
        rows: One mapping for each epoch, in order. A key may be missing or ``None`` in epochs
            without a measurement; the line then continues to the next value. NaN or an infinite
            value breaks the line.
        loss_keys: Keys of the first panel; a mapping names the label of each key's line.
        metric_keys: Keys of the second panel, fractions in [0, 1], drawn in percent; may be empty.
        best_epoch: Epoch to mark in each panel; ``None`` marks none.
        best_label: Label of that mark, in which ``{epoch}`` is the number.
        epoch_key: Key of the epoch number.
        titles: Titles of the first and of the second panel.
        theme: ``"light"`` or ``"dark"``, the colours of the page.
        size: Width and height in inches.

    Returns:
        A figure with one panel for the losses and, if there are metrics, one for these.

    Raises:
        ValueError: If there are no rows, epochs do not increase, a key is in no row, a value is not
            a number, a metric leaves [0, 1], or ``best_epoch`` is not among the epochs.
        ImportError: If matplotlib is not installed.

    Example:
        >>> rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5, "mean_ap": 0.25}]
        >>> figure = training_figure(rows, best_epoch=2)
        >>> figure.axes[1].lines[0].get_ydata().tolist()
        [25.0]
    """
    palette = palette_of(_OWNER, theme)
    epochs = _epochs(rows, epoch_key)
    if best_epoch is not None and best_epoch not in epochs:
        raise fail(_OWNER, f"best_epoch among {epochs[0]} to {epochs[-1]}", best_epoch)

    losses = _lines(rows, epochs, loss_keys)
    if not losses:
        raise fail(_OWNER, "at least one key in loss_keys", "none")

    panels = [losses]
    metrics = _lines(rows, epochs, metric_keys)
    if metrics:
        panels.append({name: _percent(name, points) for name, points in metrics.items()})

    with own_style(_OWNER):
        figure = blank_figure(_OWNER, size, palette)
        boxes = _boxes(size, [list(lines) for lines in panels])
        axes_of_panels = [plot_panel(figure, box, palette) for box in boxes]

        for axes, title, lines in zip(axes_of_panels, titles, panels, strict=False):
            _draw_panel(figure, axes, title, lines, epochs, palette)

        if best_epoch is not None:
            label = best_label.replace("{epoch}", str(best_epoch))
            _mark_epoch(axes_of_panels, best_epoch, label, palette)

    return figure


def _epochs(rows: Sequence[Mapping[str, object]], key: str) -> list[int]:
    """Read the epoch numbers, which must increase."""
    if not rows:
        raise fail(_OWNER, "at least one row", "none", "Draw after the first epoch.")

    epochs: list[int] = []
    for index, row in enumerate(rows):
        epoch = row.get(key)
        if isinstance(epoch, bool) or not isinstance(epoch, int):
            raise fail(_OWNER, f"an integer under {key!r} in row {index}", repr(epoch))
        if epochs and epoch <= epochs[-1]:
            raise ValueError(
                f"{_OWNER}: epoch {epoch} comes after epoch {epochs[-1]} in row {index}. "
                "Epochs must increase: keep only the newer row of an epoch that was repeated."
            )
        epochs.append(epoch)

    return epochs


def _lines(
    rows: Sequence[Mapping[str, object]],
    epochs: Sequence[int],
    keys: Mapping[str, str] | Sequence[str],
) -> dict[str, Points]:
    """Read the points of each key's line, by the name of the line."""
    # A string is a sequence of letters, which is not what the caller means.
    if isinstance(keys, str):
        raise fail(_OWNER, "keys as a sequence or a mapping", repr(keys), f"Write ({keys!r},).")

    names = keys if isinstance(keys, Mapping) else {key: key for key in keys}
    return {name: _points(rows, epochs, key) for key, name in names.items()}


def _points(rows: Sequence[Mapping[str, object]], epochs: Sequence[int], key: str) -> Points:
    """Read the values of one key; a value that is not finite becomes NaN, which breaks the line."""
    points: Points = []
    for index, (epoch, row) in enumerate(zip(epochs, rows, strict=True)):
        value = row.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise fail(_OWNER, f"a number under {key!r} in row {index}", repr(value))
        points.append((epoch, float(value) if math.isfinite(value) else math.nan))

    if not points:
        known = sorted({known for row in rows for known in row})
        raise fail(_OWNER, f"key {key!r} in at least one row", f"rows with {', '.join(known)}")

    return points


def _percent(name: str, points: Points) -> Points:
    for epoch, value in points:
        if value < 0 or value > 1:
            got = f"{value:g} at epoch {epoch}"
            remedy = "Log fractions, not percent."
            raise fail(_OWNER, f"metric {name!r} within [0, 1]", got, remedy)

    return [(epoch, 100 * value) for epoch, value in points]


def _boxes(size: tuple[float, float], labels: Sequence[Sequence[str]]) -> list[Box]:
    """Arrange the panels side by side, or one above the other in a tall figure.

    Args:
        size: Width and height of the figure in inches.
        labels: The labels of each panel, which are written at its right.

    Returns:
        Left, bottom, width and height of each panel in inches.
    """
    width, height = size
    right_margins = [0.25 + label_width(names) for names in labels]

    boxes = []
    if height > width:
        each = height / len(labels)
        panel_width = width - _LEFT - max(right_margins)
        for index in range(len(labels)):
            bottom = height - each * (index + 1) + _BOTTOM
            boxes.append((_LEFT, bottom, panel_width, each - _BOTTOM - _TOP))
    else:
        each = width / len(labels)
        for index, right in enumerate(right_margins):
            left = each * index + _LEFT
            boxes.append((left, _BOTTOM, each - _LEFT - right, height - _BOTTOM - _TOP))

    return boxes


def _draw_panel(
    figure: "matplotlib.figure.Figure",
    axes: "matplotlib.axes.Axes",
    title: str,
    lines: Mapping[str, Points],
    epochs: Sequence[int],
    palette: Palette,
) -> None:
    _draw_axes(axes, title, lines, epochs, palette)

    labels, ends, colours = [], [], []
    for index, (name, points) in enumerate(lines.items()):
        # The first line is blue; grey is for the baseline of a comparison.
        colour = palette.series[(index + 1) % len(palette.series)]
        axes.plot(
            [epoch for epoch, _ in points],
            [value for _, value in points],
            color=colour,
            linewidth=2,
            marker="o" if len(points) <= 20 else "",
            markersize=4,
            clip_on=False,
            solid_capstyle="round",
        )

        finite = [(float(epoch), value) for epoch, value in points if math.isfinite(value)]
        if finite:
            labels.append(name)
            ends.append(finite[-1])
            colours.append(colour)

    if labels:
        write_labels(figure, axes, labels, ends, colours, gap=0.17)


def _draw_axes(
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

    # A single epoch is drawn in the middle.
    padding = 0.5 if len(epochs) == 1 else 0.0
    axes.set_xlim(epochs[0] - padding, epochs[-1] + padding)

    values = [0.0]
    for points in lines.values():
        values += [value for _, value in points if math.isfinite(value)]
    axes.set_ylim(min(values) * 1.05, max(values) * 1.08 or 1.0)


def _mark_epoch(
    panels: Sequence["matplotlib.axes.Axes"], best_epoch: int, label: str, palette: Palette
) -> None:
    """Draw a dashed line at the best epoch in each panel, with a label in the last one."""
    dashes = (0, (3, 3))
    for axes in panels:
        axes.axvline(best_epoch, color=palette.muted, linewidth=1, linestyle=dashes, zorder=1.5)

    last = panels[-1]
    low, high = last.get_xlim()
    is_late = best_epoch > (low + high) / 2
    last.annotate(
        label,
        (best_epoch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if is_late else 3, 3),
        textcoords="offset points",
        horizontalalignment="right" if is_late else "left",
        verticalalignment="bottom",
        color=palette.muted,
        fontsize=8.5,
        parse_math=False,
    )
