"""Images that neighbouring projects turn, darken or fail at."""

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data import load_image


def corner_image():
    """A wide image whose upper left pixel is white."""
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255
    return Image.fromarray(pixels)


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# Where a viewer shows the stored upper left pixel: (width, height) and (column, row).
UPRIGHT = {
    1: ((4, 2), (0, 0)),
    2: ((4, 2), (3, 0)),
    3: ((4, 2), (3, 1)),
    4: ((4, 2), (0, 1)),
    5: ((2, 4), (0, 0)),
    6: ((2, 4), (1, 0)),
    7: ((2, 4), (1, 3)),
    8: ((2, 4), (0, 3)),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_photos_are_upright(tmp_path, orientation, suffix):
    """facebookresearch/detectron2#788: the orientation of a phone's photo is not applied.

    Here: all eight orientations are, in each format that can state one.
    """
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    corner_image().save(path, exif=exif_of(orientation), **options)

    image = load_image(path)
    size, position = UPRIGHT[orientation]
    assert image.size == size
    assert image.getpixel(position) == (255, 255, 255)


def test_an_orientation_is_applied_once(tmp_path):
    """ultralytics/yolov5#405: the size is corrected for the orientation, and the pixels are not.

    Here: pixels and size agree, and no orientation is left that a later step could apply again.
    """
    corner_image().save(tmp_path / "a.jpg", exif=exif_of(6))
    image = load_image(tmp_path / "a.jpg")

    assert image.size == (2, 4)
    assert np.asarray(image).shape == (4, 2, 3)
    assert image.getexif().get(0x0112, 1) == 1


def pixels_or_sentence(path):
    """Load an image whose metadata are damaged: its pixels, or an error that names the file."""
    try:
        return load_image(path)
    except ValueError as error:
        message = str(error)

    assert str(path) in message
    assert "\n" not in message
    return None


@pytest.mark.filterwarnings("ignore")
def test_metadata_that_are_not_utf8(tmp_path):
    """huggingface/datasets#7668: an XMP block that is not UTF-8 ends the whole run.

    Here: the pixels, or one sentence that names the file.
    """
    path = tmp_path / "a.jpg"
    corner_image().save(path, xmp=b"<x:xmpmeta>\xa8\xff</x:xmpmeta>")
    image = pixels_or_sentence(path)
    assert image is None or image.size == (4, 2)


@pytest.mark.filterwarnings("ignore")
def test_metadata_with_a_fraction_over_zero(tmp_path):
    """huggingface/datasets PR#8173: a fraction over 0 in the EXIF block ends the stream.

    Here: the pixels, or one sentence that names the file.
    """
    exif = exif_of(6)
    exif[0x011A] = (1, 1)
    path = tmp_path / "a.jpg"
    corner_image().save(path, exif=exif)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x00\x01\x00\x00\x00\x01", b"\x00\x01\x00\x00\x00\x00"))

    image = pixels_or_sentence(path)
    assert image is None or image.size in ((2, 4), (4, 2))


def test_transparent_palettes(tmp_path):
    """layumi/University1652-Baseline#17: a palette with transparency is read with a warning.

    Here: transparent pixels are white, as on a page, and no warning is raised.
    """
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 10, 0, 0, 0])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=bytes([255, 0]))

    loaded = load_image(tmp_path / "a.png")
    assert (loaded.getpixel((0, 0)), loaded.getpixel((1, 0))) == ((200, 10, 10), (255, 255, 255))


def test_four_channels(tmp_path):
    """invoke-ai/invoke-training PR#34: an image of four channels fails in the model.

    Here: any image becomes three channels; half transparent red is pink.
    """
    Image.new("RGBA", (1, 1), (255, 0, 0, 128)).save(tmp_path / "a.png")
    red, green, blue = load_image(tmp_path / "a.png").getpixel((0, 0))
    assert (red, green) == (255, blue)
    assert green == pytest.approx(127, abs=1)


def test_grey_images(tmp_path):
    """oarriaga/paz#49: grey images are loaded as if their channels were colours.

    Here: three equal channels, also from 16 bits, which are scaled and not clipped.
    """
    Image.new("L", (1, 1), 77).save(tmp_path / "a.png")
    Image.fromarray(np.full((1, 1), 77 * 257, np.uint16)).save(tmp_path / "b.png")

    assert load_image(tmp_path / "a.png").getpixel((0, 0)) == (77, 77, 77)
    assert load_image(tmp_path / "b.png").getpixel((0, 0)) == (77, 77, 77)


def test_channels_in_the_order_of_the_file(tmp_path):
    """blakeblackshear/frigate PR#23712: crops are embedded as BGR by towers that learnt RGB.

    Here: RGB, from every format.
    """
    for suffix in ("png", "bmp", "tif", "gif"):
        Image.new("RGB", (2, 2), (250, 120, 10)).save(tmp_path / f"a.{suffix}")
        assert load_image(tmp_path / f"a.{suffix}").getpixel((0, 0)) == (250, 120, 10)


def test_a_damaged_image_is_named(tmp_path):
    """huggingface/datasets#6470: one truncated image ends the loop, and nothing says which one.

    Here: a ValueError that names the file and the fault, which a loop can catch.
    """
    path = tmp_path / "cut.jpg"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"cut\.jpg.*truncated"):
        load_image(path)
