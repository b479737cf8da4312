import numpy as np
import pytest
import torch
from PIL import Image

from clipreid_kit.data import warp_transform


def _photo(width=12, height=20):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_warp_moves_shapes_fills_corners_and_keeps_the_size():
    black = Image.new("RGB", (20, 30))
    torch.manual_seed(0)
    warped = warp_transform(shear=30.0, fill=255)(black)
    assert warped.size == (20, 30)
    assert np.asarray(warped).max() == 255  # uncovered
    assert np.asarray(warped)[15, 10].tolist() == [0, 0, 0]
    photo = _photo()
    for options in ({"rotation": 40.0}, {"shear": 30.0}, {"perspective": 0.9}):
        assert not np.array_equal(np.asarray(warp_transform(**options)(photo)), np.asarray(photo))


def test_warp_with_nothing_to_do_returns_the_picture():
    photo = _photo()
    assert warp_transform()(photo) is photo


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 181.0}, "rotation"),
        ({"shear": 90.0}, "shear"),
        ({"perspective": 1.5}, "perspective"),
        ({"fill": 256}, "fill"),
    ],
)
def test_warp_refuses_what_is_out_of_range(options, message):
    with pytest.raises(ValueError, match=rf"warp_transform: expected {message}"):
        warp_transform(**options)


@pytest.mark.parametrize(("orientations", "expected"), [(4, 4), (8, 8)])
def test_warp_draws_every_orientation(orientations, expected):
    photo = _photo(8, 8)
    torch.manual_seed(0)
    warp = warp_transform(orientations=orientations)
    turns = [np.rot90(np.asarray(photo), k) for k in range(4)]
    allowed = {
        array.tobytes()
        for array in (*turns, *([t[:, ::-1] for t in turns] if orientations == 8 else ()))
    }
    drawn = {np.asarray(warp(photo)).tobytes() for _ in range(200)}
    assert len(drawn) == expected
    assert drawn <= allowed


@pytest.mark.unhooked
def test_warp_refuses_other_orientations():
    with pytest.raises(ValueError, match="orientations to be 1, 4 or 8, got 2"):
        warp_transform(orientations=2)
