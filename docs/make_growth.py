"""Draw the curves of the growth page: ``python docs/make_growth.py``.

The values are those of ``python -m benchmarks.bench_growth``, in ``docs/growth.json``.
"""

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

SOURCE = Path(__file__).parent / "growth.json"
TARGET = Path(__file__).parent / "images" / "growth.png"
COLORS = ("#1f6fb4", "#6aaed6", "#d9822b", "#8a5a9e")
PEER_COLORS = COLORS[2:]
QUANTITIES = ("processor time, s", "added memory, MB")


def main() -> None:
    """Draw time and memory of every part, side by side."""
    found = json.loads(SOURCE.read_text(encoding="utf-8"))
    parts = found["parts"]
    figure = Figure(figsize=(9, 2.5 * len(parts)), layout="constrained")
    axes = figure.subplots(len(parts), 2, squeeze=False)

    for (name, part), (time_axes, memory_axes) in zip(parts.items(), axes, strict=True):
        for column, panel in enumerate((time_axes, memory_axes)):
            draw_curves(panel, part["curves"], column + 1)
            panel.set_xlabel(part["rows"], fontsize=8)
            panel.set_ylabel(QUANTITIES[column], fontsize=8)
        draw_order(time_axes, part)
        time_axes.set_title(name, loc="left", fontsize=10, fontweight="bold")
        time_axes.legend(fontsize=7, frameon=False)

    figure.savefig(TARGET, dpi=110)


def draw_curves(axes: Axes, curves: dict[str, Any], column: int) -> None:
    """Draw one quantity of all contenders; a cross marks where one dies."""
    of_ours = iter(COLORS)
    of_peers = iter(PEER_COLORS)

    for name, curve in curves.items():
        color = next(of_ours if name.startswith("clipreid_kit") else of_peers)
        points = curve["points"]
        sizes = [point[0] for point in points]
        values = [max(point[column], 0.001 if column == 1 else 0.1) for point in points]
        label = name if curve["end"] == "largest size" else f"{name} (ends: {curve['end']})"
        axes.plot(sizes, values, "o-", color=color, markersize=3, linewidth=1.5, label=label)
        if sizes and curve["end"] != "largest size":
            axes.plot(2 * sizes[-1], values[-1], "x", color=color, markersize=7)

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, text in ((axes.xaxis, short_count), (axes.yaxis, "{:,.7g}".format)):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _, text=text: text(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def short_count(value: float) -> str:
    """Write a number of rows so that neighbouring labels have room: 500, 20k, 1M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def draw_order(axes: Axes, part: dict[str, Any]) -> None:
    """Draw the theoretical order, through the last point of this library's first curve."""
    points = next(iter(part["curves"].values()))["points"]
    last_size, last_seconds, _ = points[-1]
    sizes = [point[0] for point in points]
    values = [last_seconds * (size / last_size) ** part["order"] for size in sizes]
    order = {1: "N", 2: "N²"}[part["order"]]
    axes.plot(sizes, values, "--", color="#888888", linewidth=1, label=f"order {order}")


if __name__ == "__main__":
    main()
