from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from clipreid_kit.data.synthetic._objects.kinds import KINDS, all_shapes
from clipreid_kit.data.synthetic._scene.cameras import make_camera
from clipreid_kit.data.synthetic._scene.render import render_view
from clipreid_kit.data.synthetic.identities import make_identities

SHAPES = all_shapes()
CLEAN = replace(
    make_camera(0, 0),
    background="wall",
    brightness=0.0,
    contrast=1.0,
    cast=(1.0, 1.0, 1.0),
    blur=0.0,
    noise=0.0,
)


@cache
def identities():
    return make_identities(120, 0, SHAPES)


def pixels(identity, camera=CLEAN, size=(64, 64), seed=0):
    image = render_view(identity, camera, SHAPES, size, np.random.default_rng(seed))
    assert image.mode == "RGB"
    assert image.size == size
    return np.asarray(image).astype(float)


def mean_colour(image):
    return image.reshape(-1, 3).mean(axis=0)


def roughness(image):
    return np.abs(np.diff(image, axis=1)).mean()


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 32), (33, 47), (128, 256)])
def test_any_size_shows_the_object(size):
    plain = replace(identities()[0], pattern="plain", mark=None)
    red = replace(plain, main_rgb=(250, 20, 20), second_rgb=(250, 20, 20))
    blue = replace(plain, main_rgb=(20, 20, 250), second_rgb=(20, 20, 250))

    difference = np.abs(pixels(red, size=size) - pixels(blue, size=size)).max(axis=2)
    changed = difference > 60
    assert 0.08 < changed.mean() < 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stands_out_from_its_background(kind):
    red = replace(
        identities()[0],
        kind=kind,
        main_rgb=(220, 30, 30),
        second_rgb=(30, 30, 30),
        pattern="plain",
        mark=None,
    )
    image = pixels(red)
    is_red = (image[..., 0] > 150) & (image[..., 1] < 80)

    assert is_red.mean() > 0.03
    assert image.std() > 15


def test_brightness_makes_an_image_brighter():
    brighter = pixels(identities()[3], replace(CLEAN, brightness=0.2))

    assert brighter.mean() > pixels(identities()[3]).mean() + 20


def test_low_contrast_makes_an_image_flatter():
    flatter = pixels(identities()[3], replace(CLEAN, contrast=0.6))

    assert flatter.std() < 0.8 * pixels(identities()[3]).std()


def test_a_warm_cast_adds_red_and_removes_blue():
    neutral = mean_colour(pixels(identities()[3]))
    warm = mean_colour(pixels(identities()[3], replace(CLEAN, cast=(1.2, 1.0, 0.7))))

    assert warm[0] > neutral[0]
    assert warm[2] < neutral[2]


def test_noise_roughens_and_blur_smooths():
    clean = roughness(pixels(identities()[3]))

    assert roughness(pixels(identities()[3], replace(CLEAN, noise=0.05))) > clean
    assert roughness(pixels(identities()[3], replace(CLEAN, blur=1.5))) < clean


def test_the_light_falls_off_along_its_direction():
    toward_right = pixels(identities()[3], replace(CLEAN, light_angle=0.0, light=0.3))
    toward_left = pixels(identities()[3], replace(CLEAN, light_angle=np.pi, light=0.3))

    assert toward_right[:, -12:].mean() > toward_left[:, -12:].mean() + 20
    assert toward_right[:, :12].mean() < toward_left[:, :12].mean() - 20


def test_views_differ_and_repeat():
    first = pixels(identities()[5], seed=4)

    np.testing.assert_array_equal(first, pixels(identities()[5], seed=4))
    assert np.abs(first - pixels(identities()[5], seed=5)).mean() > 3
