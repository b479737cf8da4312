import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from clipreid_kit.data.images.flip_and_shift import RandomFlip, RandomShift

GREY, COLOUR = 7, (1, 2, 3)


def photo(width=9, height=14):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def outcome(step, seed):
    """Pixels that a step gives, and the random number that follows."""
    torch.manual_seed(seed)
    return np.asarray(step(photo())), torch.rand(())


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (RandomFlip(0.5), v2.RandomHorizontalFlip(0.5)),
        (RandomFlip(1.0), v2.RandomHorizontalFlip(1.0)),
        (RandomShift(3, GREY), v2.Compose([v2.Pad(3, fill=GREY), v2.RandomCrop((14, 9))])),
        (RandomShift(20, COLOUR), v2.Compose([v2.Pad(20, fill=COLOUR), v2.RandomCrop((14, 9))])),
    ],
)
def test_pixels_and_random_numbers_are_those_of_torchvision(ours, peer):
    for seed in range(20):
        pixels, following = outcome(ours, seed)
        expected, expected_following = outcome(peer, seed)

        assert np.array_equal(pixels, expected)
        assert following == expected_following


def test_a_shift_uncovers_fill():
    shifted = {np.asarray(RandomShift(1, 255)(Image.new("RGB", (1, 1)))).max() for _ in range(99)}
    assert shifted == {0, 255}


def test_neither_changes_its_input():
    image = photo()
    RandomFlip(1.0)(image)
    RandomShift(4, 0)(image)
    assert np.array_equal(np.asarray(image), np.asarray(photo()))
