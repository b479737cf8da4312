import numpy as np
import pytest
import torch
from PIL import Image

from clipreid_kit.data import warp_transform


def photo(width=12, height=20):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("options", [{"rotation": 40.0}, {"shear": 30.0}, {"perspective": 0.9}])
def test_every_distortion_changes_the_image(options):
    warped = warp_transform(**options)(photo())

    assert warped.size == photo().size
    assert not np.array_equal(np.asarray(warped), np.asarray(photo()))


def test_a_distortion_keeps_the_middle_and_fills_the_corners():
    black = Image.new("RGB", (20, 30))
    torch.manual_seed(0)
    warped = warp_transform(shear=30.0, fill=255)(black)

    assert np.asarray(warped)[15, 10].tolist() == [0, 0, 0]
    assert np.asarray(warped).max() == 255


def test_the_defaults_return_the_image_itself():
    image = photo()
    assert warp_transform()(image) is image


def test_four_orientations_are_the_quarter_turns():
    image = photo(8, 8)
    torch.manual_seed(0)
    warp = warp_transform(orientations=4)

    seen = {np.asarray(warp(image)).tobytes() for _ in range(200)}
    assert seen == {np.rot90(np.asarray(image), turns).tobytes() for turns in range(4)}


def test_eight_orientations_are_the_quarter_turns_and_their_mirror_images():
    image = photo(8, 8)
    torch.manual_seed(0)
    warp = warp_transform(orientations=8)

    expected = set()
    for turns in range(4):
        rotated = np.rot90(np.asarray(image), turns)
        expected |= {rotated.tobytes(), rotated[:, ::-1].tobytes()}

    assert {np.asarray(warp(image)).tobytes() for _ in range(200)} == expected


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rotation": 181.0}, r"rotation in \[0, 180\] degrees, got 181.0"),
        ({"shear": 90.0}, r"shear in \[0, 89\] degrees, got 90.0"),
        ({"perspective": 1.5}, r"perspective in \[0, 1\], got 1.5"),
        ({"fill": 256}, r"fill in \[0, 255\], got 256"),
    ],
)
def test_arguments_out_of_range_are_an_error(options, problem):
    with pytest.raises(ValueError, match=rf"warp_transform: expected {problem}"):
        warp_transform(**options)


@pytest.mark.unhooked
@pytest.mark.parametrize("orientations", [2, "4"])
def test_other_orientations_are_an_error(orientations):
    with pytest.raises(ValueError, match=f"orientations to be 1, 4 or 8, got {orientations!r}"):
        warp_transform(orientations=orientations)


@pytest.mark.unhooked
@pytest.mark.parametrize("rotation", ["30", None, True, torch.tensor(30.0)])
def test_a_number_of_another_type_is_an_error(rotation):
    with pytest.raises(ValueError, match="warp_transform: expected rotation as a number"):
        warp_transform(rotation=rotation)
