from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from clipreid_kit.viz.line_labels import label_width, spread, write_labels

POSITIONS = st.lists(st.floats(-100, 100), max_size=8)


@given(POSITIONS, st.floats(0.5, 10))
def test_spread_keeps_the_gap_and_the_order(positions: list[float], gap: float) -> None:
    moved = spread(positions, gap)
    ordered = sorted(moved)
    assert all(upper - lower >= gap - 1e-6 for lower, upper in pairwise(ordered))
    for first in range(len(positions)):
        for second in range(len(positions)):
            if positions[first] < positions[second]:
                assert moved[first] < moved[second]


@given(POSITIONS, st.floats(0.5, 10))
def test_spread_leaves_what_is_apart(positions: list[float], gap: float) -> None:
    once = spread(positions, gap)
    assert spread(once, gap * 0.999) == once


@given(POSITIONS, st.floats(0.5, 10))
def test_spread_keeps_the_mean(positions: list[float], gap: float) -> None:
    assert sum(spread(positions, gap)) == pytest.approx(sum(positions), abs=1e-6)


def test_width_is_that_of_the_longest_line() -> None:
    assert label_width([]) == 0
    assert label_width(["a", "Rank-1\n84.7%"]) == label_width(["Rank-1"])
    assert label_width(["abcd"]) > label_width(["abc"])


def test_labels_stay_inside_the_panel() -> None:
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.25, 0.25, 0.5, 0.5))  # two inches high
    axes.set_ylim(0, 100)
    points = [(1.0, 0.0), (1.0, 0.0), (1.0, 0.0)]
    write_labels(figure, axes, ["a", "b", "$c"], points, ["red"] * 3, gap=0.2)
    heights = [label.xyann[1] / 72 for label in axes.texts]  # inches above the bottom of the panel
    assert heights == pytest.approx([0.0, 0.2, 0.4])
    assert [label.get_text() for label in axes.texts] == ["a", "b", "$c"]
    assert not axes.texts[2].get_parse_math()
