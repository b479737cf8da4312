import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clipreid_kit.data import load_image


def _encoded(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def _photo():
    rows, columns = np.mgrid[:24, :16]
    return Image.fromarray(
        np.stack([rows * 10, columns * 15, rows + columns], axis=-1).astype(np.uint8)
    )


def _png_of_size(width, height):
    """A PNG with a true header of any size and next to no data."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10))
        + chunk(b"IEND", b"")
    )


def _pixel(path):
    image = load_image(path)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_a_lossless_picture_comes_back_as_it_was(tmp_path, file_format):
    _photo().save(tmp_path / "a", file_format)
    image = load_image(tmp_path / "a")
    assert (image.mode, image.size) == ("RGB", (16, 24))
    assert np.array_equal(np.asarray(image), np.asarray(_photo()))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_a_lossy_picture_is_near(tmp_path, file_format):
    _photo().save(tmp_path / "a", file_format, quality=95)
    assert (
        np.abs(np.asarray(load_image(tmp_path / "a")).astype(int) - np.asarray(_photo())).mean() < 6
    )


def test_the_name_does_not_decide_the_format(tmp_path):
    _photo().save(tmp_path / "a.jpg", "PNG")
    assert np.array_equal(np.asarray(load_image(str(tmp_path / "a.jpg"))), np.asarray(_photo()))


def test_a_zip_member_is_read_in_place(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/side.png", _encoded(_photo(), "PNG"))
    assert np.array_equal(
        np.asarray(load_image(f"{tmp_path}/a.zip::in/side.png")), np.asarray(_photo())
    )


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    _photo().save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), upright(np.asarray(_photo())))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_whatever_the_format(tmp_path, file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    _photo().save(tmp_path / "a", file_format, exif=exif)
    assert load_image(tmp_path / "a").size == (24, 16)


def test_transparency_is_laid_on_white(tmp_path):
    for name, mode, colour, expected in (
        ("clear", "RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("half", "RGBA", (0, 100, 200, 128), (127, 177, 227)),
        ("solid", "RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("grey", "LA", (0, 0), (255, 255, 255)),
    ):
        Image.new(mode, (2, 2), colour).save(tmp_path / f"{name}.png")
        assert _pixel(tmp_path / f"{name}.png") == expected, name


def test_a_transparent_colour_is_laid_on_white(tmp_path):
    for mode, colour in (("RGB", (10, 20, 30)), ("L", 10), ("1", 0), ("I;16", 5000)):
        image = Image.new(mode, (2, 1), colour)
        image.putpixel((1, 0), 1 if mode == "1" else 30_000 if mode == "I;16" else 200)
        image.save(tmp_path / "a.png", transparency=colour)
        assert _pixel(tmp_path / "a.png") == (255, 255, 255), mode
        assert load_image(tmp_path / "a.png").getpixel((1, 0)) != (10, 20, 30)


def test_a_palette_and_its_transparent_entry(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=0)
    assert _pixel(tmp_path / "opaque.png") == (9, 8, 7)
    assert _pixel(tmp_path / "clear.png") == (255, 255, 255)
    assert load_image(tmp_path / "clear.png").getpixel((1, 0)) == (200, 100, 50)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        image = load_image(tmp_path / name)
        assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 128, 255], name
    (tmp_path / "a.pgm").write_bytes(b"P5 5 1 65535\n" + values.astype(">u2").tobytes())
    assert np.asarray(load_image(tmp_path / "a.pgm"))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_one_bit_and_cmyk(tmp_path):
    Image.new("1", (2, 2), 1).save(tmp_path / "bit.png")
    assert _pixel(tmp_path / "bit.png") == (255, 255, 255)
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    assert np.allclose(_pixel(tmp_path / "ink.jpg"), (255, 0, 0), atol=4)


def test_the_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert _pixel(tmp_path / "a.gif") == (255, 0, 0)


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert _pixel(tmp_path / "a.png") == (1, 2, 3)


_PNG = _encoded(_photo(), "PNG")
_JPEG = _encoded(_photo(), "JPEG")
_BAD = {
    "empty.jpg": (b"", r"an empty file \(0 bytes\)"),
    "text.jpg": (b"<html>404 not found</html>", "26 bytes of something else"),
    "zeros.png": (bytes(1000), "1000 bytes of something else"),
    "header.png": (_PNG[:20], "something else, or of a damaged header|truncated or corrupt"),
    "cut.png": (_PNG[: len(_PNG) // 2], "truncated or corrupt"),
    "cut.jpg": (_JPEG[: len(_JPEG) - 60], "truncated or corrupt"),
    "cut.bmp": (_encoded(_photo(), "BMP")[:200], "truncated or corrupt"),
    "cut.webp": (_encoded(_photo(), "WEBP")[:60], "truncated or corrupt|something else"),
    "flipped.png": (_PNG[:60] + bytes([_PNG[60] ^ 255]) + _PNG[61:], "truncated or corrupt"),
    "short.png": (_png_of_size(50, 50), "truncated or corrupt"),
    "large.png": (
        _png_of_size(10_000, 9_000),
        r"at most 89478485 pixels, got .*: .*(90000000|10000 x 9000) pixels",
    ),
    "bomb.png": (_png_of_size(60_000, 60_000), r"at most 89478485 pixels, got .*3600000000 pixels"),
    "float.tif": (_encoded(Image.new("F", (2, 2)), "TIFF"), "8 or 16 bits, got mode 'F'"),
    "thirty_two.tif": (_encoded(Image.new("I", (2, 2)), "TIFF"), "8 or 16 bits, got mode 'I'"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", _BAD)
def test_a_bad_image_is_named_with_what_to_do(tmp_path, name):
    content, problem = _BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^load_image: expected .*(?:{problem})") as caught:
        load_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert any(
        word in str(caught.value) for word in ("Restore the file", "Shrink it", "convert it")
    )


def test_a_large_image_is_refused_where_warnings_are_errors(tmp_path):
    (tmp_path / "a.png").write_bytes(_png_of_size(10_000, 9_000))
    with pytest.raises(ValueError, match=r"load_image: .*a\.png"):
        load_image(tmp_path / "a.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"load_image: expected an existing image file, got no file at .*no\.jpg"
    ):
        load_image(tmp_path / "no.jpg")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_a_picture_or_a_clear_error(tmp_path, monkeypatch, file_format, data):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    content = bytearray(_encoded(_photo(), file_format))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.img"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        image = load_image(path)
    except ValueError as error:
        assert str(error).startswith("load_image: expected ")  # noqa: PT017  both ends are right
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert image.mode == "RGB"
