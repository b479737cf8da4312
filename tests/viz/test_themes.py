import pytest

from clipreid_kit.viz.themes import Theme, palette_of


def luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_on_its_ground(theme: Theme) -> None:
    palette = palette_of("test", theme)
    for colour in (palette.text, palette.muted, palette.right, palette.wrong, *palette.series):
        assert contrast(colour, palette.surface) >= 4.5, colour
    assert contrast(palette.text, palette.panel) >= 7
    for mark in (palette.right, palette.wrong):
        assert contrast(palette.on_mark, mark) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_are_distinct(theme: Theme) -> None:
    series = palette_of("test", theme).series
    assert len(set(series)) == len(series) >= 6


@pytest.mark.unhooked
def test_unknown_theme() -> None:
    with pytest.raises(
        ValueError, match=r"cmc_figure: expected theme to be one of light, dark, got 'sepia'"
    ):
        palette_of("cmc_figure", "sepia")
