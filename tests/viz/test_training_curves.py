import math
from collections.abc import Mapping

import numpy as np
import pytest

from clipreid_kit.viz import training_figure

ROWS: list[Mapping[str, object]] = [
    {"epoch": 1, "loss": 3.0, "supcon": 2.0, "val": 0.2},
    {"epoch": 2, "loss": 2.0, "supcon": 1.5},
    {"epoch": 3, "loss": 1.0, "supcon": 0.5, "val": 0.6},
    {"epoch": 4, "loss": 1.0, "supcon": 0.5, "val": None},
]


def test_losses_and_metrics_in_two_panels() -> None:
    figure = training_figure(
        ROWS, loss_keys={"loss": "total", "supcon": "SupCon"}, metric_keys={"val": "mAP"}
    )
    losses, metrics = figure.axes

    total, supcon = losses.lines
    assert total.get_ydata().tolist() == [3, 2, 1, 1]
    assert supcon.get_ydata().tolist() == [2, 1.5, 0.5, 0.5]
    assert [text.get_text() for text in losses.texts] == ["total", "SupCon"]
    assert losses.get_title(loc="left") == "Training loss"

    assert metrics.lines[0].get_xdata().tolist() == [1, 3]
    np.testing.assert_allclose(metrics.lines[0].get_ydata(), [20, 60])
    assert [text.get_text() for text in metrics.texts] == ["mAP"]


def test_the_best_epoch_is_marked_in_both_panels() -> None:
    figure = training_figure(ROWS, metric_keys=["val"], best_epoch=3)

    for axes in figure.axes:
        assert list(axes.lines[-1].get_xdata()) == [3, 3]
    assert "best: epoch 3" in [text.get_text() for text in figure.axes[1].texts]


def test_without_metrics_there_is_one_panel() -> None:
    assert len(training_figure(ROWS, metric_keys=()).axes) == 1


@pytest.mark.parametrize(("size", "stacked"), [((8.0, 3.0), False), ((3.6, 5.6), True)])
def test_panels_do_not_overlap(size: tuple[float, float], stacked: bool) -> None:
    first, second = training_figure(ROWS, metric_keys=["val"], size=size).axes

    if stacked:
        assert first.get_position().y0 > second.get_position().y1
    else:
        assert first.get_position().x1 < second.get_position().x0


def test_not_a_number_breaks_the_line() -> None:
    rows = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": math.inf}, {"epoch": 3, "loss": 0.5}]
    figure = training_figure(rows, metric_keys=())

    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, math.nan, 0.5])
    assert figure.axes[0].get_ylim()[1] < 2


def test_one_epoch_without_a_finite_value_can_be_drawn() -> None:
    figure = training_figure([{"epoch": 1, "loss": math.nan}], metric_keys=())
    figure.canvas.draw()

    assert not list(figure.axes[0].texts)


def test_negative_losses_are_visible() -> None:
    low, _ = training_figure([{"epoch": 1, "loss": -2.0}], metric_keys=()).axes[0].get_ylim()
    assert low < -2


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "expected at least one row, got none"),
        ([{"loss": 1.0}], "expected an integer under 'epoch' in row 0, got None"),
        (
            [{"epoch": 2, "loss": 1.0}, {"epoch": 2, "loss": 1.0}],
            "epoch 2 comes after epoch 2 in row 1",
        ),
        ([{"epoch": 1, "loss": "low"}], "expected a number under 'loss' in row 0, got 'low'"),
        (
            [{"epoch": 1, "lose": 1.0}],
            "expected key 'loss' in at least one row, got rows with epoch, lose",
        ),
    ],
)
def test_impossible_rows_are_explained(rows: list[Mapping[str, object]], text: str) -> None:
    with pytest.raises(ValueError, match=f"training_figure: {text}"):
        training_figure(rows, metric_keys=())


def test_percent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"metric 'val' within \[0, 1\], got 60 at epoch 1"):
        training_figure([{"epoch": 1, "loss": 1.0, "val": 60.0}], metric_keys=["val"])


def test_a_figure_needs_a_loss() -> None:
    with pytest.raises(ValueError, match="at least one key in loss_keys"):
        training_figure(ROWS, loss_keys=(), metric_keys=())


def test_the_label_of_the_marked_epoch_is_chosen() -> None:
    for label, shown in (("last epoch", "last epoch"), ("no. {epoch} {x}", "no. 3 {x}")):
        figure = training_figure(ROWS, metric_keys=(), best_epoch=3, best_label=label)
        assert shown in [text.get_text() for text in figure.axes[0].texts]


def test_an_unknown_best_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="best_epoch among 1 to 4, got 9"):
        training_figure(ROWS, metric_keys=(), best_epoch=9)


def test_a_bare_string_is_no_list_of_keys() -> None:
    with pytest.raises(ValueError, match=r"got 'loss'. Write \('loss',\)"):
        training_figure(ROWS, loss_keys="loss", metric_keys=())
