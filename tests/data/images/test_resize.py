import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from clipreid_kit.data import ImageSpec
from clipreid_kit.data.images.resize import (
    CropToSize,
    PadToSize,
    RandomFractionCrop,
    StretchToSize,
    resize_step,
)

SIDES = st.integers(1, 60)
FILTERS = st.sampled_from(["bicubic", "bilinear"])


def photo(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@given(width=SIDES, height=SIDES, target=st.tuples(SIDES, SIDES), interpolation=FILTERS)
def test_every_step_returns_exactly_the_size(width, height, target, interpolation):
    steps = [
        PadToSize(target, interpolation, 0),
        CropToSize(target, interpolation),
        StretchToSize(target, interpolation),
    ]
    for step in steps:
        assert step(photo(width, height)).size == target[::-1]


@given(width=SIDES, height=SIDES, side=SIDES)
def test_a_square_crop_equals_torchvision(width, height, side):
    bicubic = v2.InterpolationMode.BICUBIC
    peer = v2.Compose([v2.Resize(side, interpolation=bicubic), v2.CenterCrop(side)])

    image = photo(width, height)
    cropped = CropToSize((side, side), "bicubic")(image)
    assert np.array_equal(np.asarray(cropped), np.asarray(peer(image)))


@given(width=SIDES, height=SIDES, target=st.tuples(SIDES, SIDES))
def test_a_stretch_equals_torchvision(width, height, target):
    peer = v2.Resize(target, interpolation=v2.InterpolationMode.BILINEAR)

    image = photo(width, height)
    stretched = StretchToSize(target, "bilinear")(image)
    assert np.array_equal(np.asarray(stretched), np.asarray(peer(image)))


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((20, 40), (slice(0, 20), slice(15, 25))),
        ((40, 10), (slice(10, 30), slice(0, 10))),
    ],
)
def test_padding_keeps_the_aspect_and_centres_the_image(size, inner):
    white = Image.new("RGB", (5, 10), "white")
    padded = np.asarray(PadToSize(size, "bicubic", (9, 8, 7))(white))

    expected = np.empty((*size, 3), dtype=np.uint8)
    expected[:] = (9, 8, 7)
    expected[inner] = 255
    assert np.array_equal(padded, expected)


def test_a_crop_keeps_the_centre():
    columns = np.arange(30, dtype=np.uint8)
    stripes = np.broadcast_to(columns[None, :, None], (10, 30, 3))

    cropped = CropToSize((10, 10), "bicubic")(Image.fromarray(np.ascontiguousarray(stripes)))
    assert np.asarray(cropped)[0, :, 0].tolist() == list(range(10, 20))


@given(width=SIDES, height=SIDES, fraction=st.floats(0.01, 1))
def test_a_fraction_crop_keeps_that_part_of_both_sides(width, height, fraction):
    part = RandomFractionCrop(fraction)(photo(width, height))
    assert part.size == (max(1, int(width * fraction)), max(1, int(height * fraction)))


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("stretch", StretchToSize((8, 4), "bilinear")),
        ("pad", PadToSize((8, 4), "bilinear", 7)),
        ("crop", CropToSize((8, 4), "bilinear")),
    ],
)
def test_the_fit_of_a_spec_chooses_the_step(fit, expected):
    spec = ImageSpec(image_size=(8, 4), fit=fit, fill=7)
    assert resize_step(spec, "bilinear") == expected
