import subprocess
import sys

import matplotlib as mpl
import pytest

from clipreid_kit.viz import cmc_figure, figure_png
from clipreid_kit.viz._canvas import blank_figure, own_style, plot_panel
from clipreid_kit.viz.themes import palette_of

LIGHT = palette_of("test", "light")


def test_the_callers_settings_neither_change_nor_reach_the_figure() -> None:
    plain = figure_png(cmc_figure({"after": [0.5, 1.0]}))
    settings = {"font.family": "serif", "axes.linewidth": 9, "savefig.bbox": "tight"}

    with mpl.rc_context(settings):
        before = dict(mpl.rcParams)
        assert figure_png(cmc_figure({"after": [0.5, 1.0]})) == plain
        assert dict(mpl.rcParams) == before


def test_settings_are_restored_after_an_error() -> None:
    before = dict(mpl.rcParams)

    def interrupted() -> None:
        with own_style("test"):
            mpl.rcParams["font.size"] = 99
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()

    assert dict(mpl.rcParams) == before


def test_pyplot_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from clipreid_kit.viz import cmc_figure, figure_png\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figure_png(cmc_figure({'after': [0.5, 1.0]}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_a_call_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    text = r"cmc_figure needs matplotlib.*pip install clipreid_kit\[viz\]"
    with pytest.raises(ImportError, match=text):
        cmc_figure({"after": [0.5, 1.0]})


@pytest.mark.parametrize("size", [(0.0, 3.0), (3.0, float("nan")), (3.0, 1e6)])
def test_impossible_sizes_are_refused(size: tuple[float, float]) -> None:
    text = r"cmc_figure: expected size as \(width, height\)"

    with own_style("test"), pytest.raises(ValueError, match=text):
        blank_figure("cmc_figure", size, LIGHT)


def test_a_panel_is_placed_in_inches() -> None:
    with own_style("test"):
        figure = blank_figure("test", (5.0, 4.0), LIGHT)
        axes = plot_panel(figure, (1.0, 0.5, 3.0, 2.0), LIGHT)

    assert axes.get_position().bounds == pytest.approx((0.2, 0.125, 0.6, 0.5))
    assert not axes.spines["top"].get_visible()
    assert axes.spines["bottom"].get_visible()
