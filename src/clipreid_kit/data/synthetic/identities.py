"""Identities: the properties of an object that all of its images share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from clipreid_kit.data.synthetic._objects.geometry import Shape
from clipreid_kit.data.synthetic._objects.kinds import KINDS
from clipreid_kit.data.synthetic._objects.marks import LETTERS, MARK_SHAPES, NUMBERS
from clipreid_kit.data.synthetic._objects.patterns import PATTERNS

Rgb = tuple[int, int, int]

COLOURS: Mapping[str, Rgb] = MappingProxyType(
    {
        "red": (216, 50, 52),
        "orange": (243, 134, 44),
        "yellow": (247, 205, 70),
        "green": (74, 160, 84),
        "teal": (34, 168, 160),
        "blue": (56, 124, 222),
        "navy": (36, 52, 108),
        "purple": (128, 76, 182),
        "pink": (244, 140, 182),
        "brown": (130, 84, 54),
        "grey": (146, 152, 160),
        "black": (44, 46, 54),
        "white": (246, 244, 238),
    }
)

_STREAM = 1  # separates these random draws from those of cameras, views and captions
_FAMILY_SIZES = (1, 2, 3, 4)
_FINENESS = (0.7, 1.0, 1.45)
_MIN_CONTRAST = 130.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A small sign on the surface.

    Attributes:
        shape: ``star``, ``heart``, ``circle``, ``triangle``, ``flower``, ``letter``, ``number`` or
            ``band``.
        symbol: The letter or digit; empty for every other shape.
        colour: Name of its colour.
        place: Its position in a caption's words, such as ``on the chest``; empty for a band.
        place_index: Index of that position among the places for marks of its kind of object.
    """

    shape: str
    symbol: str
    colour: str
    place: str
    place_index: int


@dataclass(frozen=True, slots=True)
class Identity:
    """One object: the properties that all of its images share.

    Attributes:
        number: Its label, from 0.
        kind: The kind of object: ``jacket``, ``mug``, ...
        main_colour: Name of the surface colour.
        second_colour: Name of the colour of the trim and of the pattern.
        pattern: ``plain``, ``dots``, ``checks``, ...
        mark: The sign on it; ``None`` if it has none.
        shade: -1 darker, 0 as named, 1 lighter; always 0 for black and white. No caption mentions
            it.
        fineness: 0 fine, 1 medium, 2 bold pattern. No caption mentions it.
        main_rgb: The exact surface colour.
        second_rgb: The exact second colour.
        period: Width of one stripe and one gap together, in object units.
        slimness: Width relative to the width of the drawing.

    Example:
        >>> from clipreid_kit.data.synthetic import SyntheticReid
        >>> identity = SyntheticReid(8).identities[3]
        >>> identity.number, identity.kind in KINDS, identity.main_colour != identity.second_colour
        (3, True, True)
    """

    number: int
    kind: str
    main_colour: str
    second_colour: str
    pattern: str
    mark: Mark | None
    shade: int
    fineness: int
    main_rgb: Rgb
    second_rgb: Rgb
    period: float
    slimness: float


def contrast(first: str, second: str) -> float:
    """Distance between two named colours; below about 100 they are easily confused."""
    difference = np.subtract(COLOURS[first], COLOURS[second], dtype=np.float64)
    return float(np.sqrt((difference**2 * (0.9, 1.2, 0.9)).sum()))


def make_identities(count: int, seed: int, shapes: Mapping[str, Shape]) -> tuple[Identity, ...]:
    """Draw identities in families of near-twins.

    A family shares kind, main colour and pattern; each further member changes one or two of second
    colour, mark, shade and fineness of the pattern. Consecutive numbers are mostly twins. No two
    identities agree in all of these properties, and the first ``n`` identities do not depend on
    ``count``.

    Args:
        count: Number of identities.
        seed: Seed of the draws, at least 0.
        shapes: The drawing of every kind.

    Returns:
        The identities, numbered from 0.
    """
    rng = np.random.default_rng((seed, _STREAM))
    made: list[Identity] = []
    seen: set[tuple[object, ...]] = set()
    kinds: list[str] = []

    while len(made) < count:
        # Every kind is used once, in random order, before any is used again.
        if not kinds:
            kinds = [KINDS[i] for i in rng.permutation(len(KINDS))]
        kind = kinds.pop()
        shape = shapes[kind]

        family_size = int(rng.choice(_FAMILY_SIZES))
        founder = member = _new_founder(rng, kind, shape, seen)

        for position in range(family_size):
            if position > 0:
                member = _new_twin(rng, founder, shape, seen)

            seen.add(_visible_properties(member))
            numbered = replace(member, number=len(made))
            made.append(_with_exact_colours(rng, numbered))

    return tuple(made[:count])


def _visible_properties(identity: Identity) -> tuple[object, ...]:
    """Return the properties that no two identities may share entirely."""
    # A plain surface shows no fineness.
    fineness = None if identity.pattern == "plain" else identity.fineness

    return (
        identity.kind,
        identity.main_colour,
        identity.second_colour,
        identity.pattern,
        identity.mark,
        identity.shade,
        fineness,
    )


def _new_founder(
    rng: np.random.Generator, kind: str, shape: Shape, seen: set[tuple[object, ...]]
) -> Identity:
    """Draw founders until one differs from all identities so far."""
    founder = _draw_founder(rng, kind, shape)

    while _visible_properties(founder) in seen:
        founder = _draw_founder(rng, kind, shape)

    return founder


def _new_twin(
    rng: np.random.Generator, founder: Identity, shape: Shape, seen: set[tuple[object, ...]]
) -> Identity:
    """Change the founder until the result differs from all identities so far."""
    twin = _draw_twin(rng, founder, shape)

    while _visible_properties(twin) in seen:
        twin = _draw_twin(rng, twin, shape)

    return twin


def _draw_founder(rng: np.random.Generator, kind: str, shape: Shape) -> Identity:
    # The order of the draws is part of the data set: another order gives other identities.
    main = str(rng.choice(list(COLOURS)))
    second = _draw_colour(rng, beside=(main,))
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    mark = _draw_mark(rng, main, second, shape)
    shade = _draw_shade(rng, main)
    fineness = int(rng.integers(len(_FINENESS)))
    slimness = float(rng.uniform(0.92, 1.06))

    return Identity(
        number=0,
        kind=kind,
        main_colour=main,
        second_colour=second,
        pattern=pattern,
        mark=mark,
        shade=shade,
        fineness=fineness,
        main_rgb=COLOURS[main],
        second_rgb=COLOURS[second],
        period=0.0,
        slimness=slimness,
    )


def _draw_twin(rng: np.random.Generator, original: Identity, shape: Shape) -> Identity:
    twin = original
    num_changes = int(rng.integers(1, 3))

    for change in rng.choice(4, size=num_changes, replace=False):
        if change == 0:
            twin = _with_other_second_colour(rng, twin)
        elif change == 1:
            mark = _draw_mark(rng, twin.main_colour, twin.second_colour, shape)
            twin = replace(twin, mark=mark)
        elif change == 2:
            twin = replace(twin, shade=_draw_shade(rng, twin.main_colour))
        else:
            twin = replace(twin, fineness=int(rng.integers(len(_FINENESS))))

    return twin


def _with_other_second_colour(rng: np.random.Generator, identity: Identity) -> Identity:
    """Draw another second colour, and another colour of the mark if the two are too similar."""
    main = identity.main_colour
    second = _draw_colour(rng, beside=(main,))
    mark = identity.mark

    if mark is not None and contrast(mark.colour, second) < _MIN_CONTRAST:
        mark = replace(mark, colour=_draw_colour(rng, beside=(main, second)))

    return replace(identity, second_colour=second, mark=mark)


def _draw_shade(rng: np.random.Generator, main: str) -> int:
    # A lighter white or a darker black would not be visible.
    if main in ("black", "white"):
        return 0

    return int(rng.integers(-1, 2))


def _draw_mark(rng: np.random.Generator, main: str, second: str, shape: Shape) -> Mark | None:
    if rng.random() < 0.08:
        return None

    sign = MARK_SHAPES[int(rng.integers(len(MARK_SHAPES)))]

    symbol = ""
    if sign == "letter":
        symbol = str(rng.choice(LETTERS))
    elif sign == "number":
        symbol = str(rng.choice(NUMBERS))

    # A band runs through the first place, which no trim covers.
    place_index, words = 0, ""
    if sign != "band":
        place_index = int(rng.integers(len(shape.places)))
        words = shape.places[place_index].words

    colour = _draw_colour(rng, beside=(main, second))
    return Mark(sign, symbol, colour, words, place_index)


def _draw_colour(rng: np.random.Generator, beside: tuple[str, ...]) -> str:
    """Draw a colour that stands out from the colours beside it."""

    def stands_out(name: str) -> bool:
        return all(contrast(name, other) >= _MIN_CONTRAST for other in beside)

    allowed = [name for name in COLOURS if stands_out(name)]
    return allowed[int(rng.integers(len(allowed)))]


def _with_exact_colours(rng: np.random.Generator, identity: Identity) -> Identity:
    main_rgb = _exact_colour(rng, COLOURS[identity.main_colour], identity.shade)
    second_rgb = _exact_colour(rng, COLOURS[identity.second_colour], 0)
    period = 0.3 * _FINENESS[identity.fineness] * float(rng.uniform(0.95, 1.05))

    return replace(identity, main_rgb=main_rgb, second_rgb=second_rgb, period=period)


def _exact_colour(rng: np.random.Generator, rgb: Rgb, shade: int) -> Rgb:
    colour = np.asarray(rgb, dtype=np.float64) + rng.uniform(-4.0, 4.0, size=3)

    if shade < 0:
        colour = colour * 0.8
    elif shade > 0:
        colour = colour + 0.2 * (255.0 - colour)

    red, green, blue = np.clip(np.rint(colour), 0, 255)
    return int(red), int(green), int(blue)
