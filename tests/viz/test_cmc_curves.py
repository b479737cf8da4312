import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from clipreid_kit.viz import cmc_figure
from clipreid_kit.viz.themes import palette_of

CURVES = {"before": [0.186, 0.3, 0.45], "after": [0.847, 0.9, 0.95]}


def test_curves_are_drawn_in_percent() -> None:
    (axes,) = cmc_figure(CURVES).axes

    assert axes.get_ylim() == (0, 100)
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3]] * 2
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [84.7, 90, 95])


def test_names_and_rank_1_are_written_at_the_lines() -> None:
    (axes,) = cmc_figure(CURVES).axes

    labels = {text.get_text(): to_hex(text.get_color()) for text in axes.texts}
    before, after = palette_of("test", "light").series[:2]
    assert labels == {
        "before": before,
        "after": after,
        "Rank-1\n18.6%": before,
        "Rank-1\n84.7%": after,
    }
    assert axes.get_legend() is None


def test_curves_differ_by_more_than_colour() -> None:
    figure = cmc_figure({str(index): [0.1 * index, 0.5] for index in range(4)})
    lines = figure.axes[0].lines

    styles = {str(line.get_linestyle()) + str(line._dash_pattern) for line in lines}
    assert len(styles) == 4
    assert lines[-1].get_linestyle() == "-"


def test_max_rank_cuts_and_a_short_curve_ends_early() -> None:
    figure = cmc_figure({"long": [0.5] * 30, "short": [0.2, 0.4]}, max_rank=20)

    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [20, 2]
    assert figure.axes[0].get_xlim() == (1, 20)


@pytest.mark.parametrize(
    "curve",
    [
        torch.tensor([0.25, 0.5]),
        torch.tensor([0.25, 0.5], requires_grad=True),
        np.array([0.25, 0.5], np.float32),
    ],
)
def test_tensors_and_arrays(curve: object) -> None:
    assert cmc_figure({"a": curve}).axes[0].lines[0].get_ydata().tolist() == [25, 50]


def test_one_rank_only() -> None:
    assert cmc_figure({"a": [1.0]}).axes[0].lines[0].get_ydata().tolist() == [100]


def test_names_are_plain_text() -> None:
    figure = cmc_figure({"$50 model_$": [0.5, 1.0]})

    assert not figure.axes[0].texts[0].get_parse_math()


def test_labels_of_equal_curves_do_not_overlap() -> None:
    figure = cmc_figure({"a": [0.5, 0.9], "b": [0.5, 0.9]})
    figure.canvas.draw()

    first, second, *_ = [text.get_window_extent() for text in figure.axes[0].texts]
    assert first.y1 <= second.y0 or second.y1 <= first.y0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30).map(sorted))
@settings(max_examples=10, deadline=None)
def test_every_cmc_can_be_drawn(curve: list[float]) -> None:
    drawn = cmc_figure({"a": curve}, max_rank=30).axes[0].lines[0].get_ydata()

    np.testing.assert_allclose(drawn, np.array(curve) * 100)


@pytest.mark.parametrize(
    ("curves", "text"),
    [
        ({}, "expected at least one curve, got none"),
        ({"a": []}, r"expected curve 'a' as one row of fractions, got shape \(0,\)"),
        (
            {"a": [0.5, 84.7]},
            r"curve 'a' within \[0, 1\], got values from 0.5 to 84.7. Pass fractions",
        ),
        ({"a": [-0.1, 0.5]}, r"curve 'a' within \[0, 1\]"),
        ({"a": [0.5, float("nan")]}, r"curve 'a' within \[0, 1\]"),
        (
            {"b": [0.5, 0.6, 0.4]},
            "cmc_figure: curve 'b' decreases from 0.6 at rank 2 to 0.4 at rank 3",
        ),
    ],
)
def test_impossible_curves_are_explained(curves: dict[str, list[float]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        cmc_figure(curves)


@pytest.mark.unhooked
@pytest.mark.parametrize("max_rank", [0, "20", None])
def test_impossible_ranks_are_refused(max_rank: object) -> None:
    with pytest.raises(ValueError, match="cmc_figure: expected max_rank as a whole number >= 1"):
        cmc_figure(CURVES, max_rank=max_rank)


@pytest.mark.unhooked
def test_a_matrix_is_no_curve() -> None:
    with pytest.raises(ValueError, match=r"curve 'a' as one row of fractions, got shape \(2, 2\)"):
        cmc_figure({"a": torch.zeros(2, 2)})
