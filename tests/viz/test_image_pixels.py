import io

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.viz.image_pixels import rgb_pixels


def test_arrays_are_not_copied() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)

    assert rgb_pixels("owner", "image", pixels) is pixels


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    pixels = rgb_pixels("owner", "image", Image.new("RGB", (3, 2), "white").convert(mode))

    assert pixels.shape == (2, 3, 3)
    assert pixels.dtype == np.uint8
    assert pixels.min() >= 250


def test_transparent_pixels_are_shown_on_white() -> None:
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert rgb_pixels("owner", "image", image).tolist() == [[[255, 255, 255]]]

    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert rgb_pixels("owner", "image", half)[0, 0, 0] == pytest.approx(127, abs=1)


def test_a_truncated_file_is_named(tmp_path: object) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    file = tmp_path / "cut.png"
    file.write_bytes(buffer.getvalue()[:3000])

    text = r"owner: queries\[0\] is not readable: .*cut\.png"
    with Image.open(file) as image, pytest.raises(ValueError, match=text):
        rgb_pixels("owner", "queries[0]", image)


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"with at least one pixel, got shape \(0, 4, 3\)"):
        rgb_pixels("owner", "image", np.zeros((0, 4, 3), np.uint8))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((4, 4), np.uint8), r"an array of shape \(4, 4\) and dtype uint8"),
        (np.zeros((3, 4, 4), np.float32), "dtype float32. From a float tensor"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        ("photo.jpg", "got str. Open a file with PIL.Image.open."),
        (None, "got NoneType"),
    ],
)
def test_other_objects_are_refused(image: object, got: str) -> None:
    text = f"owner: expected image as a PIL image or a uint8 array.*{got}"

    with pytest.raises(ValueError, match=text):
        rgb_pixels("owner", "image", image)
