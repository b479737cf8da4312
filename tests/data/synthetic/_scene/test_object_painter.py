from functools import cache

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data.synthetic._objects.kinds import KINDS, all_shapes
from clipreid_kit.data.synthetic._objects.marks import LETTERS, MARK_SHAPES, NUMBERS
from clipreid_kit.data.synthetic._objects.patterns import PATTERNS, pattern_mask
from clipreid_kit.data.synthetic._scene.object_painter import Canvas, Look, draw_object
from clipreid_kit.data.synthetic.identities import COLOURS, Mark

SHAPES = all_shapes()
PAPER = (1, 2, 3)  # a colour that no paint has
UPRIGHT = np.array([[90.0, 0.0, 100.0], [0.0, 90.0, 100.0], [0.0, 0.0, 1.0]])


def draw(kind="t-shirt", pattern="plain", mark=None, matrix=UPRIGHT, mirrored=False):
    canvas = Canvas(Image.new("RGB", (200, 200), PAPER), Image.new("L", (200, 200)))
    look = Look(COLOURS["blue"], COLOURS["yellow"], pattern, 0.3, mark)
    draw_object(canvas, SHAPES[kind], look, matrix, 90.0, mirrored=mirrored)
    return np.asarray(canvas.image), np.asarray(canvas.mask) > 0


@cache
def draw_plain(kind):
    return draw(kind)


def has_colour(image, colour):
    return (image == COLOURS[colour]).all(axis=2)


def fraction(image, colour):
    return float(has_colour(image, colour).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_both_colours(kind):
    image, _ = draw(kind)

    assert fraction(image, "blue") > 0.08
    assert fraction(image, "yellow") > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_covers_the_painted_pixels(kind):
    image, mask = draw(kind)
    changed = (image != PAPER).any(axis=2)

    assert 0.15 < changed.mean() < 0.9
    assert (changed & ~mask).sum() < 0.03 * changed.sum()
    assert (mask & ~changed).sum() == 0


def test_kinds_look_different():
    masks = [draw_plain(kind)[1] for kind in KINDS]

    for i, first in enumerate(masks):
        for second in masks[i + 1 :]:
            assert (first ^ second).mean() > 0.05


@pytest.mark.parametrize("pattern", PATTERNS[1:])
@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_shows_on_every_kind(kind, pattern):
    plain, _ = draw_plain(kind)
    patterned, _ = draw(kind, pattern)

    assert fraction(patterned, "yellow") > fraction(plain, "yellow") + 0.01
    assert fraction(patterned, "blue") > 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [shape for shape in MARK_SHAPES if shape != "band"])
def test_every_mark_shows_in_every_place(kind, shape):
    symbol = {"letter": "K", "number": "4"}.get(shape, "")

    for index, place in enumerate(SHAPES[kind].places):
        image, _ = draw(kind, mark=Mark(shape, symbol, "red", place.words, index))
        red_pixels = np.argwhere(has_colour(image, "red"))
        assert len(red_pixels) > 60

        centre = (100 + 90 * place.y, 100 + 90 * place.x)
        row, column = np.median(red_pixels, axis=0)
        assert (row, column) == pytest.approx(centre, abs=0.7 * 90 * place.size)


@pytest.mark.parametrize("kind", KINDS)
def test_a_band_shows_on_every_kind(kind):
    image, _ = draw(kind, mark=Mark("band", "", "red", "", 0))

    assert has_colour(image, "red").sum() > 60


@pytest.mark.parametrize("symbol", LETTERS + NUMBERS)
def test_every_symbol_shows(symbol):
    shape = "letter" if symbol in LETTERS else "number"
    image, _ = draw(mark=Mark(shape, symbol, "red", "on the chest", 0))

    assert fraction(image, "red") > 0.002


def test_a_mirrored_drawing_is_the_mirror_image():
    straight, _ = draw("shoe")
    mirrored, _ = draw("shoe", mirrored=True)
    flipped_back = np.roll(mirrored, 1, axis=1)[:, ::-1]

    assert (straight != flipped_back).any(axis=2).mean() < 0.05
    assert (straight != mirrored).any(axis=2).mean() > 0.1


def test_the_pattern_turns_with_the_object():
    quarter_turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    straight, _ = draw("armchair", "horizontal stripes")
    turned, _ = draw("armchair", "horizontal stripes", matrix=UPRIGHT @ quarter_turn)

    assert (np.rot90(straight, -1) != turned).any(axis=2).mean() < 0.12
    assert (straight != turned).any(axis=2).mean() > 0.3


def test_a_band_stays_on_the_fabric():
    banded, mask = draw("mug", mark=Mark("band", "", "red", "", 0))

    assert not has_colour(banded, "red")[~mask].any()


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_a_pattern_lies_in_the_coordinates_of_its_object(pattern):
    image, _ = draw(pattern=pattern)
    row, column = np.mgrid[:200, :200].astype(np.float32)
    second = pattern_mask(pattern, (column - 99.5) / 90, (row - 99.5) / 90, 0.3)

    shows_main = has_colour(image, "blue")
    assert shows_main.any()
    assert second[shows_main].mean() < 0.01  # where rounding decides
