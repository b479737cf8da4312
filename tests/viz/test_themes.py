import pytest

from clipreid_kit.viz.themes import Theme, palette_of


def luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (linear(value) for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def linear(value: float) -> float:
    """Decode one channel of sRGB."""
    if value <= 0.04045:
        return value / 12.92
    return ((value + 0.055) / 1.055) ** 2.4


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_on_its_background(theme: Theme) -> None:
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
def test_an_unknown_theme_is_refused() -> None:
    text = "cmc_figure: expected theme to be one of light, dark, got 'sepia'"

    with pytest.raises(ValueError, match=text):
        palette_of("cmc_figure", "sepia")
