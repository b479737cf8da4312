from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from clipreid_kit.viz._line_labels import label_width, spread, write_labels

POSITIONS = st.lists(st.floats(-100, 100), max_size=8)


@given(POSITIONS, st.floats(0.5, 10))
def test_spread_keeps_the_gap_and_the_order(positions: list[float], gap: float) -> None:
    moved = spread(positions, gap)

    for lower, upper in pairwise(sorted(moved)):
        assert upper - lower >= gap - 1e-6

    pairs = list(zip(positions, moved, strict=True))
    for (first, first_moved), (second, second_moved) in product(pairs, repeat=2):
        if first < second:
            assert first_moved < second_moved


@given(POSITIONS, st.floats(0.5, 10))
def test_spread_leaves_positions_that_are_apart(positions: list[float], gap: float) -> None:
    once = spread(positions, gap)

    assert spread(once, gap * 0.999) == once


@given(POSITIONS, st.floats(0.5, 10))
def test_spread_keeps_the_mean(positions: list[float], gap: float) -> None:
    assert sum(spread(positions, gap)) == pytest.approx(sum(positions), abs=1e-6)


def test_the_longest_line_determines_the_width() -> None:
    assert label_width([]) == 0
    assert label_width(["a", "Rank-1\n84.7%"]) == label_width(["Rank-1"])
    assert label_width(["abcd"]) > label_width(["abc"])


def test_labels_stay_inside_the_panel() -> None:
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.25, 0.25, 0.5, 0.5))  # two inches high
    axes.set_ylim(0, 100)
    points = [(1.0, 0.0), (1.0, 0.0), (1.0, 0.0)]
    write_labels(figure, axes, ["a", "b", "$c"], points, ["red"] * 3, gap=0.2)

    inches_above_the_bottom = [label.xyann[1] / 72 for label in axes.texts]
    assert inches_above_the_bottom == pytest.approx([0.0, 0.2, 0.4])


def test_labels_are_plain_text() -> None:
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.25, 0.25, 0.5, 0.5))
    write_labels(figure, axes, ["$c"], [(1.0, 0.0)], ["red"], gap=0.2)

    assert axes.texts[0].get_text() == "$c"
    assert not axes.texts[0].get_parse_math()
