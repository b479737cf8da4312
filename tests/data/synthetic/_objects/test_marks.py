import numpy as np
import pytest

from clipreid_kit.data.synthetic._objects.marks import (
    LETTERS,
    MARK_SHAPES,
    NUMBERS,
    glyph_strokes,
    mark_polygon,
)

FILLED = [shape for shape in MARK_SHAPES if shape not in ("letter", "number", "band")]


@pytest.mark.parametrize("shape", FILLED)
def test_filled_marks_fill_their_square(shape):
    points = mark_polygon(shape)

    assert 0.8 < np.abs(points).max() < 1.25
    assert np.ptp(points, axis=0).min() > 1.5


def test_filled_marks_differ():
    assert len({mark_polygon(shape).tobytes() for shape in FILLED}) == len(FILLED)


@pytest.mark.parametrize("symbol", LETTERS + NUMBERS)
def test_glyphs_stay_in_their_square(symbol):
    points = np.concatenate(glyph_strokes(symbol))

    assert np.abs(points).max() <= 1.2
    assert np.ptp(points[:, 1]) > 1.8


def test_glyphs_differ():
    symbols = LETTERS + NUMBERS
    drawn = {np.concatenate(glyph_strokes(symbol)).tobytes() for symbol in symbols}

    assert len(drawn) == len(symbols)
