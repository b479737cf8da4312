"""Colours for a light and a dark page, also distinguishable by colour-blind readers."""

from typing import Literal, NamedTuple

from clipreid_kit._checks import check_choice

Theme = Literal["light", "dark"]


class Palette(NamedTuple):
    """The colours of one theme; the contrast of text on ``surface`` is at least 4.5 to 1."""

    surface: str
    panel: str
    text: str
    muted: str
    grid: str
    right: str
    wrong: str
    on_mark: str
    series: tuple[str, ...]


_LIGHT = Palette(
    surface="#ffffff",
    panel="#f1f3f6",
    text="#1b2430",
    muted="#5b6675",
    grid="#e3e7ec",
    right="#0b7a53",
    wrong="#c2331f",
    on_mark="#ffffff",
    series=("#66707d", "#005fb0", "#b34a00", "#8a3fa0", "#00735c", "#8a6100"),
)
_DARK = Palette(
    surface="#171d26",
    panel="#232b37",
    text="#e8ecf2",
    muted="#a3adbb",
    grid="#2f3947",
    right="#3ecf96",
    wrong="#ff7d66",
    on_mark="#10151c",
    series=("#a3adbb", "#62b5ff", "#ff9d4d", "#d39be8", "#3fd0ac", "#e0bd4a"),
)


def palette_of(owner: str, theme: Theme) -> Palette:
    """Return the colours of a theme."""
    check_choice(owner, "theme", theme, ("light", "dark"))
    return _LIGHT if theme == "light" else _DARK
