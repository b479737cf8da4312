"""Identities: what is fixed about one object, whoever looks at it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from clipreid_kit.data.synthetic.geometry import Shape
from clipreid_kit.data.synthetic.marks import LETTERS, MARK_SHAPES, NUMBERS
from clipreid_kit.data.synthetic.patterns import PATTERNS
from clipreid_kit.data.synthetic.shapes import KINDS

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

_STREAM = 1  # keeps these draws apart from those of cameras, views and captions
_FAMILY_SIZES = (1, 2, 3, 4)
_FINENESS = (0.7, 1.0, 1.45)
_MIN_CONTRAST = 130.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A small sign on the surface.

    Attributes:
        shape: ``star``, ``heart``, ``circle``, ``triangle``, ``flower``, ``letter``, ``number`` or ``band``.
        symbol: The letter or digit; empty for the other shapes.
        colour: Its colour by name.
        place: Where it is, as a caption says it: ``on the chest``; empty for a band.
        place_index: Which of the kind's places that is.
    """

    shape: str
    symbol: str
    colour: str
    place: str
    place_index: int


@dataclass(frozen=True, slots=True)
class Identity:
    """One object: everything that its images share.

    Attributes:
        number: Its label, from 0.
        kind: What it is: ``jacket``, ``mug``, ...
        main_colour: Name of the surface colour.
        second_colour: Name of the colour of the trim and of the pattern.
        pattern: ``plain``, ``dots``, ``checks``, ...
        mark: The sign on it; ``None`` where it has none.
        shade: -1 darker, 0 as named, 1 lighter; black and white have no shades; no caption tells.
        fineness: 0 fine, 1 medium, 2 bold pattern; no caption tells.
        main_rgb: The exact surface colour.
        second_rgb: The exact second colour.
        period: Width of one stripe and one gap together, in object units.
        slimness: Width relative to the drawing's own.

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
    """Distance between two named colours; about 100 is where they stop being confused."""
    difference = np.subtract(COLOURS[first], COLOURS[second], dtype=np.float64)
    return float(np.sqrt((difference**2 * (0.9, 1.2, 0.9)).sum()))


def make_identities(count: int, seed: int, shapes: Mapping[str, Shape]) -> tuple[Identity, ...]:
    """Draw identities in families of near-twins.

    A family shares kind, main colour and pattern; each further member changes one or two of second colour,
    mark, shade and fineness of the pattern. Neighbouring numbers are mostly twins. No two identities agree in
    all of these, and the first ``n`` identities are the same whatever ``count`` is.

    Args:
        count: How many.
        seed: At least 0.
        shapes: The drawing of every kind.
    """
    rng = np.random.default_rng((seed, _STREAM))
    made: list[Identity] = []
    seen: set[tuple[object, ...]] = set()
    kinds: list[str] = []
    while len(made) < count:
        kinds = kinds or [KINDS[i] for i in rng.permutation(len(KINDS))]
        kind = kinds.pop()
        first: Identity | None = None
        for _ in range(int(rng.choice(_FAMILY_SIZES))):
            member = (
                _founder(rng, kind, shapes[kind])
                if first is None
                else _twin(rng, first, shapes[kind])
            )
            while (key := _key(member)) in seen:
                member = (
                    _founder(rng, kind, shapes[kind])
                    if first is None
                    else _twin(rng, member, shapes[kind])
                )
            first = first or member
            seen.add(key)
            made.append(_finished(rng, replace(member, number=len(made))))
    return tuple(made[:count])


def _key(identity: Identity) -> tuple[object, ...]:
    fineness = identity.fineness if identity.pattern != "plain" else None
    look = (identity.kind, identity.main_colour, identity.second_colour, identity.pattern)
    return (*look, identity.mark, identity.shade, fineness)


def _founder(rng: np.random.Generator, kind: str, shape: Shape) -> Identity:
    main = str(rng.choice(list(COLOURS)))
    second = _colour(rng, (main,))
    return Identity(
        number=0,
        kind=kind,
        main_colour=main,
        second_colour=second,
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
        mark=_mark(rng, main, second, shape),
        shade=_shade(rng, main),
        fineness=int(rng.integers(len(_FINENESS))),
        main_rgb=COLOURS[main],
        second_rgb=COLOURS[second],
        period=0.0,
        slimness=float(rng.uniform(0.92, 1.06)),
    )


def _twin(rng: np.random.Generator, first: Identity, shape: Shape) -> Identity:
    twin = first
    for change in rng.choice(4, size=int(rng.integers(1, 3)), replace=False):
        if change == 0:
            second = _colour(rng, (twin.main_colour,))
            mark = twin.mark
            if mark is not None and contrast(mark.colour, second) < _MIN_CONTRAST:
                mark = replace(mark, colour=_colour(rng, (twin.main_colour, second)))
            twin = replace(twin, second_colour=second, mark=mark)
        elif change == 1:
            twin = replace(twin, mark=_mark(rng, twin.main_colour, twin.second_colour, shape))
        elif change == 2:
            twin = replace(twin, shade=_shade(rng, twin.main_colour))
        else:
            twin = replace(twin, fineness=int(rng.integers(len(_FINENESS))))
    return twin


def _shade(rng: np.random.Generator, main: str) -> int:
    # a lighter white and a darker black could not be seen
    return 0 if main in ("black", "white") else int(rng.integers(-1, 2))


def _mark(rng: np.random.Generator, main: str, second: str, shape: Shape) -> Mark | None:
    if rng.random() < 0.08:
        return None
    sign = MARK_SHAPES[int(rng.integers(len(MARK_SHAPES)))]
    symbol = (
        str(rng.choice({"letter": LETTERS, "number": NUMBERS}[sign]))
        if sign in ("letter", "number")
        else ""
    )
    # a band runs through the first place, which no trim covers
    index = 0 if sign == "band" else int(rng.integers(len(shape.places)))
    words = "" if sign == "band" else shape.places[index].words
    return Mark(sign, symbol, _colour(rng, (main, second)), words, index)


def _colour(rng: np.random.Generator, beside: tuple[str, ...]) -> str:
    allowed = [
        name for name in COLOURS if all(contrast(name, other) >= _MIN_CONTRAST for other in beside)
    ]
    return allowed[int(rng.integers(len(allowed)))]


def _finished(rng: np.random.Generator, identity: Identity) -> Identity:
    return replace(
        identity,
        main_rgb=_shaded(rng, COLOURS[identity.main_colour], identity.shade),
        second_rgb=_shaded(rng, COLOURS[identity.second_colour], 0),
        period=0.3 * _FINENESS[identity.fineness] * float(rng.uniform(0.95, 1.05)),
    )


def _shaded(rng: np.random.Generator, rgb: Rgb, shade: int) -> Rgb:
    colour = np.asarray(rgb, dtype=np.float64) + rng.uniform(-4.0, 4.0, size=3)
    if shade < 0:
        colour = colour * 0.8
    elif shade > 0:
        colour = colour + 0.2 * (255.0 - colour)
    red, green, blue = (int(channel) for channel in np.clip(np.rint(colour), 0, 255))
    return red, green, blue
