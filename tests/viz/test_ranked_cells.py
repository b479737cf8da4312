import pytest

from clipreid_kit.viz._canvas import blank_figure, own_style
from clipreid_kit.viz._ranked_cells import Cell, draw_query, draw_separator, write_text
from clipreid_kit.viz.themes import palette_of

LIGHT = palette_of("test", "light")
CELL = Cell(0.5, 1.0, 1.75, 1.05)


@pytest.mark.parametrize("length", [1, 8, 20, 200])
def test_sentences_of_any_length_stay_in_their_cell(length: int) -> None:
    sentence = " ".join(["wide"] * length)
    with own_style("test"):
        figure = blank_figure("test", (3.0, 3.0), LIGHT)
        draw_query(figure, "query 0", sentence, CELL, LIGHT)
        figure.canvas.draw()
        (text,) = figure.axes[0].texts
        cell = figure.axes[0].get_window_extent()
        drawn = text.get_window_extent()

    assert cell.x0 <= drawn.x0 <= drawn.x1 <= cell.x1
    assert cell.y0 <= drawn.y0 <= drawn.y1 <= cell.y1


@pytest.mark.parametrize("length", [1, 8, 20, 200])
def test_only_a_sentence_that_does_not_fit_is_truncated(length: int) -> None:
    sentence = " ".join(["wide"] * length)
    with own_style("test"):
        figure = blank_figure("test", (3.0, 3.0), LIGHT)
        draw_query(figure, "query 0", sentence, CELL, LIGHT)

    shown = figure.axes[0].texts[0].get_text().replace("\n", " ")
    assert sentence.startswith(shown.removesuffix(" …"))
    assert shown.endswith("…") == (length == 200)
    assert (shown == sentence) == (length < 200)


def test_an_empty_sentence_draws_an_empty_cell() -> None:
    with own_style("test"):
        figure = blank_figure("test", (3.0, 3.0), LIGHT)
        draw_query(figure, "query 0", "", CELL, LIGHT)

    assert figure.axes[0].texts[0].get_text() == ""


def test_positions_are_inches_from_the_top_left() -> None:
    with own_style("test"):
        figure = blank_figure("test", (4.0, 2.0), LIGHT)
        draw_query(figure, "query 0", "a", Cell(1.0, 0.5, 2.0, 1.0), LIGHT)
        write_text(figure, "word", (1.0, 0.5), "red")
        draw_separator(figure, 3.0, 0.0, 1.0, LIGHT)

    assert figure.axes[0].get_position().bounds == pytest.approx((0.25, 0.25, 0.5, 0.5))
    assert figure.texts[0].get_position() == (0.25, 0.75)
    (line,) = figure.artists
    assert (line.get_xdata(), line.get_ydata()) == ([0.75, 0.75], [1.0, 0.5])


def test_the_middle_of_a_cell_is_its_horizontal_centre() -> None:
    assert CELL.middle == 1.375
