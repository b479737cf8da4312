import numpy as np
import pytest

from clipreid_kit.data.synthetic._scene.backgrounds import BACKGROUNDS, draw_background


def pixels(kind, size=(90, 60), seed=0, hue=0.6):
    image = draw_background(kind, hue, 0.7, size, np.random.default_rng(seed))
    assert image.size == size
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_every_background_has_structure(kind):
    assert pixels(kind).reshape(-1, 3).std(axis=0).max() > 1.5


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_every_background_depends_on_the_generator_alone(kind):
    first = pixels(kind)

    np.testing.assert_array_equal(first, pixels(kind))
    assert (first != pixels(kind, seed=1)).any()


@pytest.mark.parametrize("kind", BACKGROUNDS)
@pytest.mark.parametrize("size", [(33, 200), (200, 33)])
def test_long_and_tall_sizes_are_filled(kind, size):
    assert pixels(kind, size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_the_hue_is_visible(kind):
    red, _, blue = pixels(kind, hue=0.0).reshape(-1, 3).mean(axis=0)
    assert red > blue


def test_backgrounds_differ():
    assert len({pixels(kind).tobytes() for kind in BACKGROUNDS}) == len(BACKGROUNDS)
