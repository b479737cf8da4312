import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data.synthetic.attributes import COLOURS, Mark
from clipreid_kit.data.synthetic.drawing import Canvas, Look, draw_object
from clipreid_kit.data.synthetic.marks import LETTERS, MARK_SHAPES, NUMBERS
from clipreid_kit.data.synthetic.patterns import PATTERNS
from clipreid_kit.data.synthetic.shapes import KINDS, all_shapes

SHAPES = all_shapes()
PAPER = (1, 2, 3)  # a colour that no paint has
UPRIGHT = np.array([[90.0, 0.0, 100.0], [0.0, 90.0, 100.0], [0.0, 0.0, 1.0]])


def draw(kind="t-shirt", pattern="plain", mark=None, matrix=UPRIGHT, mirrored=False):
    canvas = Canvas(Image.new("RGB", (200, 200), PAPER), Image.new("L", (200, 200)))
    look = Look(COLOURS["blue"], COLOURS["yellow"], pattern, 0.3, mark)
    draw_object(canvas, SHAPES[kind], look, matrix, 90.0, mirrored=mirrored)
    return np.asarray(canvas.picture), np.asarray(canvas.mask) > 0


def share(picture, colour):
    return float((picture == COLOURS[colour]).all(axis=2).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_in_both_colours_and_knows_what_it_covers(kind):
    picture, mask = draw(kind)
    changed = (picture != PAPER).any(axis=2)
    assert 0.15 < changed.mean() < 0.9
    assert (changed & ~mask).sum() < 0.03 * changed.sum()
    assert (mask & ~changed).sum() == 0
    assert share(picture, "blue") > 0.08
    assert share(picture, "yellow") > 0.01


def test_kinds_look_different():
    masks = [draw(kind)[1] for kind in KINDS]
    for i, first in enumerate(masks):
        for second in masks[i + 1 :]:
            assert (first ^ second).mean() > 0.05


@pytest.mark.parametrize("pattern", PATTERNS[1:])
@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_shows_on_every_kind(kind, pattern):
    plain, _ = draw(kind)
    patterned, _ = draw(kind, pattern)
    assert share(patterned, "yellow") > share(plain, "yellow") + 0.01
    assert share(patterned, "blue") > 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", MARK_SHAPES)
def test_every_mark_shows_in_every_place(kind, shape):
    symbol = {"letter": "K", "number": "4"}.get(shape, "")
    places = SHAPES[kind].places[:1] if shape == "band" else SHAPES[kind].places
    for index, place in enumerate(places):
        picture, _ = draw(kind, mark=Mark(shape, symbol, "red", place.words, index))
        where = np.argwhere((picture == COLOURS["red"]).all(axis=2))
        assert len(where) > 60
        if shape != "band":
            row, column = np.median(where, axis=0)
            assert (row, column) == pytest.approx(
                (100 + 90 * place.y, 100 + 90 * place.x), abs=0.7 * 90 * place.size
            )


@pytest.mark.parametrize("symbol", LETTERS + NUMBERS)
def test_every_symbol_shows(symbol):
    shape = "letter" if symbol in LETTERS else "number"
    picture, _ = draw(mark=Mark(shape, symbol, "red", "on the chest", 0))
    assert share(picture, "red") > 0.002


def test_a_mirrored_drawing_is_the_mirror_image():
    straight, _ = draw("shoe")
    mirrored, _ = draw("shoe", mirrored=True)
    differing = (straight[:, ::-1] != np.roll(mirrored, 1, axis=1)).any(axis=2).mean()
    assert differing < 0.05
    assert (straight != mirrored).any(axis=2).mean() > 0.1


def test_the_pattern_turns_with_the_object():
    turned = UPRIGHT @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    straight, _ = draw("armchair", "horizontal stripes")
    quarter, _ = draw("armchair", "horizontal stripes", matrix=turned)
    assert (np.rot90(straight, -1) != quarter).any(axis=2).mean() < 0.12
    assert (straight != quarter).any(axis=2).mean() > 0.3


def test_a_band_stays_on_the_fabric():
    banded, mask = draw("mug", mark=Mark("band", "", "red", "", 0))
    assert not (banded == COLOURS["red"]).all(axis=2)[~mask].any()
