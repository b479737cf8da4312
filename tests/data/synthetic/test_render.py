from dataclasses import replace

import numpy as np
import pytest

from clipreid_kit.data.synthetic.attributes import make_identities
from clipreid_kit.data.synthetic.cameras import make_camera
from clipreid_kit.data.synthetic.render import render_view
from clipreid_kit.data.synthetic.shapes import KINDS, all_shapes

SHAPES = all_shapes()
IDENTITIES = make_identities(120, 0, SHAPES)
CLEAN = replace(
    make_camera(0, 0),
    background="wall",
    brightness=0.0,
    contrast=1.0,
    cast=(1.0, 1.0, 1.0),
    blur=0.0,
    noise=0.0,
)


def pixels(identity, camera=CLEAN, size=(64, 64), seed=0):
    picture = render_view(identity, camera, SHAPES, size, np.random.default_rng(seed))
    assert picture.mode == "RGB"
    assert picture.size == size
    return np.asarray(picture).astype(float)


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 32), (33, 47), (128, 256)])
def test_any_size_shows_the_object(size):
    lighter = replace(
        IDENTITIES[0], main_rgb=(250, 20, 20), second_rgb=(250, 20, 20), pattern="plain", mark=None
    )
    darker = replace(lighter, main_rgb=(20, 20, 250), second_rgb=(20, 20, 250))
    changed = np.abs(pixels(lighter, size=size) - pixels(darker, size=size)).max(axis=2) > 60
    assert 0.08 < changed.mean() < 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stands_out_from_its_background(kind):
    red = replace(
        IDENTITIES[0],
        kind=kind,
        main_rgb=(220, 30, 30),
        second_rgb=(30, 30, 30),
        pattern="plain",
        mark=None,
    )
    picture = pixels(red)
    assert ((picture[..., 0] > 150) & (picture[..., 1] < 80)).mean() > 0.03
    assert picture.std() > 15


def test_the_camera_leaves_its_mark():
    identity = IDENTITIES[3]
    base = pixels(identity)
    assert pixels(identity, replace(CLEAN, brightness=0.2)).mean() > base.mean() + 20
    assert pixels(identity, replace(CLEAN, contrast=0.6)).std() < 0.8 * base.std()
    warm = pixels(identity, replace(CLEAN, cast=(1.2, 1.0, 0.7))).reshape(-1, 3).mean(axis=0)
    cold = base.reshape(-1, 3).mean(axis=0)
    assert warm[0] > cold[0]
    assert warm[2] < cold[2]

    def roughness(camera):
        return np.abs(np.diff(pixels(identity, camera), axis=1)).mean()

    assert (
        roughness(replace(CLEAN, noise=0.05))
        > roughness(CLEAN)
        > roughness(replace(CLEAN, blur=1.5))
    )


def test_the_light_falls_off_along_its_direction():
    toward_right = pixels(IDENTITIES[3], replace(CLEAN, light_angle=0.0, light=0.3))
    toward_left = pixels(IDENTITIES[3], replace(CLEAN, light_angle=np.pi, light=0.3))
    assert toward_right[:, -12:].mean() > toward_left[:, -12:].mean() + 20
    assert toward_right[:, :12].mean() < toward_left[:, :12].mean() - 20


def test_views_differ_and_repeat():
    np.testing.assert_array_equal(pixels(IDENTITIES[5], seed=4), pixels(IDENTITIES[5], seed=4))
    assert np.abs(pixels(IDENTITIES[5], seed=4) - pixels(IDENTITIES[5], seed=5)).mean() > 3
