import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from clipreid_kit.data.images.resize import CropToSize, PadToSize, RandomShare, Stretch

_sides = st.integers(1, 60)
_modes = st.sampled_from(["bicubic", "bilinear"])


def _photo(width, height):
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


@given(width=_sides, height=_sides, target=st.tuples(_sides, _sides), mode=_modes)
def test_every_way_gives_exactly_the_size(width, height, target, mode):
    photo = _photo(width, height)
    for step in (PadToSize(target, mode, 0), CropToSize(target, mode), Stretch(target, mode)):
        assert step(photo).size == target[::-1]


@given(width=_sides, height=_sides, side=_sides)
def test_a_square_crop_is_that_of_torchvision(width, height, side):
    photo = _photo(width, height)
    peer = v2.Compose(
        [v2.Resize(side, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(side)]
    )(photo)
    assert np.array_equal(np.asarray(CropToSize((side, side), "bicubic")(photo)), np.asarray(peer))


@given(width=_sides, height=_sides, target=st.tuples(_sides, _sides))
def test_a_stretch_is_that_of_torchvision(width, height, target):
    photo = _photo(width, height)
    peer = v2.Resize(target, interpolation=v2.InterpolationMode.BILINEAR)(photo)
    assert np.array_equal(np.asarray(Stretch(target, "bilinear")(photo)), np.asarray(peer))


@pytest.mark.parametrize(
    ("size", "inner"),
    [((20, 40), (slice(0, 20), slice(15, 25))), ((40, 10), (slice(10, 30), slice(0, 10)))],
)
def test_padding_keeps_the_aspect_and_the_middle(size, inner):
    padded = np.asarray(PadToSize(size, "bicubic", (9, 8, 7))(Image.new("RGB", (5, 10), "white")))
    assert (padded[inner] == 255).all()
    assert (padded == 255).all(axis=-1).sum() == 200
    assert padded[~(padded == 255).all(axis=-1)].tolist() == [[9, 8, 7]] * (size[0] * size[1] - 200)


def test_a_crop_keeps_the_middle():
    stripes = Image.fromarray(
        np.repeat(np.arange(30, dtype=np.uint8)[None, :, None], 10, axis=0).repeat(3, axis=2)
    )
    assert np.asarray(CropToSize((10, 10), "bicubic")(stripes))[0, :, 0].tolist() == list(
        range(10, 20)
    )


@given(width=_sides, height=_sides, share=st.floats(0.01, 1))
def test_a_share_is_a_part_of_the_picture(width, height, share):
    part = RandomShare(share)(_photo(width, height))
    assert part.size == (max(1, int(width * share)), max(1, int(height * share)))
