import numpy as np
import pytest

from clipreid_kit.data.synthetic.backgrounds import BACKGROUNDS, draw_background


def pixels(kind, size=(90, 60), seed=0, hue=0.6):
    picture = draw_background(kind, hue, 0.7, size, np.random.default_rng(seed))
    assert picture.size == size
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_every_background_has_structure_and_moves_with_the_view(kind):
    first = pixels(kind)
    assert first.reshape(-1, 3).std(axis=0).max() > 1.5
    np.testing.assert_array_equal(first, pixels(kind))
    assert (first != pixels(kind, seed=1)).any()


@pytest.mark.parametrize("kind", BACKGROUNDS)
@pytest.mark.parametrize("size", [(33, 200), (200, 33)])
def test_odd_sizes_are_filled(kind, size):
    assert pixels(kind, size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_the_hue_shows(kind):
    red, _, blue = pixels(kind, hue=0.0).reshape(-1, 3).mean(axis=0)
    assert red > blue


def test_backgrounds_differ():
    assert len({pixels(kind).tobytes() for kind in BACKGROUNDS}) == len(BACKGROUNDS)
