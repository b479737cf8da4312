from types import SimpleNamespace

import numpy as np
import pytest

from clipreid_kit.viz import figure_png, reliability_figure


def calibration(*bins, error=0.02):
    names = ("low", "high", "share", "predicted", "observed")
    parts = [SimpleNamespace(**dict(zip(names, part, strict=True))) for part in bins]
    return SimpleNamespace(reliability=parts, calibration_error=error)


MANY = (0.0, 0.1, 0.99, 0.02, 0.01)
FEW = (0.9, 1.0, 0.01, 0.95, 0.8)


def test_points_and_bars_are_those_of_the_bins() -> None:
    curve, bars = reliability_figure(calibration(MANY, FEW)).axes

    np.testing.assert_allclose(curve.lines[0].get_xydata(), [[0, 0], [100, 100]])
    np.testing.assert_allclose(curve.lines[1].get_xydata(), [[2, 1], [95, 80]])
    assert curve.get_xlim() == curve.get_ylim() == (0, 100)

    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], [99, 1])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars.patches]
    np.testing.assert_allclose(centres, [5, 95])
    assert bars.get_yscale() == "log"
    assert bars.get_ylim()[0] < 1


def test_the_error_is_written() -> None:
    figure = reliability_figure(calibration(MANY, error=0.0123))
    assert "calibration error 1.23 % on held-out identities" in [t.get_text() for t in figure.texts]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_same_bytes(theme: str) -> None:
    found = calibration(MANY, FEW)
    first = figure_png(reliability_figure(found, theme=theme), dpi=40)
    assert first == figure_png(reliability_figure(found, theme=theme), dpi=40)


def test_one_bin_and_a_bin_without_pairs() -> None:
    reliability_figure(calibration((0.0, 0.1, 1.0, 0.0, 0.0)))
    _, bars = reliability_figure(calibration(MANY, (0.9, 1.0, 0.0, 0.95, 0.8))).axes
    assert bars.patches[1].get_height() == 0


def test_wrong_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="a calibration with bins, got none"):
        reliability_figure(calibration())
    with pytest.raises(ValueError, match="Pass fractions, not percent"):
        reliability_figure(calibration((0.0, 0.1, 99.0, 0.02, 0.01)))
    with pytest.raises(ValueError, match=r"bins within \[0, 1\]"):
        reliability_figure(calibration((0.0, 0.1, 0.5, float("nan"), 0.01)))
