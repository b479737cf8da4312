"""Names written at the ends of lines, moved apart where they would overlap."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_CHARACTER_INCHES = 0.082  # a wide average for 9-point DejaVu Sans, bold included


def label_width(labels: Sequence[str]) -> float:
    """Inches to keep free beside a panel for the longest of ``labels``."""
    return (
        max((len(line) for label in labels for line in label.split("\n")), default=0)
        * _CHARACTER_INCHES
    )


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions, as little as possible, until neighbours are at least ``gap`` apart; order is kept.

    Example:
        >>> spread([10.0, 11.0, 50.0], gap=3.0)
        [9.0, 12.0, 50.0]
    """
    order = sorted(range(len(positions)), key=lambda index: (positions[index], index))
    groups: list[list[int]] = []  # labels that touch, stacked around their common centre
    centres: list[float] = []
    for index in order:
        groups.append([index])
        centres.append(positions[index])
        while (
            len(groups) > 1
            and centres[-1] - centres[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):
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
    """Write each label beside its point, ``offset`` points to the right (to the left if negative).

    Args:
        figure: Holds the panel.
        axes: The panel; its limits must be set.
        labels: Plain text; a dollar sign is a dollar sign.
        points: (x, y) in data units, one for each label.
        colours: One for each label.
        gap: Least distance between two labels, in inches.
        offset: In points.
    """
    low, high = axes.get_ylim()
    height = axes.get_position().height * figure.get_size_inches()[1]
    per_inch = (high - low) / height
    moved = spread([y for _, y in points], gap * per_inch)
    # a stack that ran over the edge of the panel is pushed back inside as a whole
    shift = max(0.0, low - min(moved)) - max(0.0, max(moved) - high - 0.05 * per_inch)
    for label, (x, y), colour, place in zip(labels, points, colours, moved, strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(offset, (place + shift - y) / per_inch * 72),
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
