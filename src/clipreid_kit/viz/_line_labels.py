"""Write labels at the ends of lines, moved apart if they would overlap."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_CHARACTER_INCHES = 0.082  # a wide average for 9-point DejaVu Sans, bold included


def label_width(labels: Sequence[str]) -> float:
    """Return the inches that the longest of ``labels`` needs beside a panel."""
    lines = [line for label in labels for line in label.split("\n")]
    longest = max(map(len, lines), default=0)
    return longest * _CHARACTER_INCHES


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions, as little as possible, until neighbours are at least ``gap`` apart.

    Their order is kept.

    Example:
        >>> spread([10.0, 11.0, 50.0], gap=3.0)
        [9.0, 12.0, 50.0]
    """
    # Labels that touch form a group, stacked around the mean of their positions.
    groups: list[list[int]] = []
    centres: list[float] = []

    for index in sorted(range(len(positions)), key=lambda index: (positions[index], index)):
        groups.append([index])
        centres.append(positions[index])

        while len(groups) > 1:
            needed = gap * (len(groups[-1]) + len(groups[-2])) / 2
            if centres[-1] - centres[-2] >= needed:
                break
            last = groups.pop()
            centres.pop()
            groups[-1] += last
            centres[-1] = sum(positions[member] for member in groups[-1]) / len(groups[-1])

    moved = list(positions)
    for group, centre in zip(groups, centres, strict=True):
        for place, member in enumerate(group):
            moved[member] = centre + gap * (place - (len(group) - 1) / 2)

    return moved


def write_labels(
    figure: "matplotlib.figure.Figure",
    axes: "matplotlib.axes.Axes",
    labels: Sequence[str],
    points: Sequence[tuple[float, float]],
    colours: Sequence[str],
    *,
    gap: float,
    offset: float = 7.0,
) -> None:
    """Write each label beside its point.

    Args:
        figure: Figure of the panel.
        axes: The panel; its limits must be set.
        labels: Plain text; a dollar sign is a dollar sign.
        points: (x, y) in data units, one for each label.
        colours: One for each label.
        gap: Minimum distance between two labels, in inches.
        offset: Distance to the right of the point, or to the left if negative, in typographic
            points.
    """
    low, high = axes.get_ylim()
    height = axes.get_position().height * figure.get_size_inches()[1]
    per_inch = (high - low) / height
    moved = spread([y for _, y in points], gap * per_inch)

    # Labels that overlap the edge of the panel are pushed back inside, all together.
    shift = max(0.0, low - min(moved)) - max(0.0, max(moved) - high - 0.05 * per_inch)

    for label, (x, y), colour, label_y in zip(labels, points, colours, moved, strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(offset, (label_y + shift - y) / per_inch * 72),
            textcoords="offset points",
            horizontalalignment="left" if offset > 0 else "right",
            verticalalignment="center",
            color=colour,
            fontsize=9,
            fontweight="bold",
            linespacing=1.15,
            parse_math=False,
            annotation_clip=False,
        )
