import io
import os
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from clipreid_kit.data import load_image
from clipreid_kit.data.images.load_image import decode_image


def encode(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def photo():
    rows, columns = np.mgrid[:24, :16]
    channels = np.stack([rows * 10, columns * 15, rows + columns], axis=-1)
    return Image.fromarray(channels.astype(np.uint8))


def png_of_size(width, height):
    """A PNG with a true header of any size and hardly any data."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10))
        + chunk(b"IEND", b"")
    )


def first_pixel(path):
    image = load_image(path)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def same_pixels(image, expected):
    return np.array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_a_lossless_image_comes_back_as_it_was(tmp_path, file_format):
    photo().save(tmp_path / "a", file_format)
    image = load_image(tmp_path / "a")

    assert (image.mode, image.size) == ("RGB", (16, 24))
    assert same_pixels(image, photo())


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_a_lossy_image_is_near(tmp_path, file_format):
    photo().save(tmp_path / "a", file_format, quality=95)
    pixels = np.asarray(load_image(tmp_path / "a")).astype(int)

    assert np.abs(pixels - np.asarray(photo())).mean() < 6


def test_the_name_does_not_decide_the_format(tmp_path):
    photo().save(tmp_path / "a.jpg", "PNG")
    assert same_pixels(load_image(str(tmp_path / "a.jpg")), photo())


def test_a_member_of_a_zip_archive_is_read_in_place(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/side.png", encode(photo(), "PNG"))

    assert same_pixels(load_image(f"{tmp_path}/a.zip::in/side.png"), photo())


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
    photo().save(tmp_path / "a.png", exif=exif)

    assert same_pixels(load_image(tmp_path / "a.png"), upright(np.asarray(photo())))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_in_every_format(tmp_path, file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(tmp_path / "a", file_format, exif=exif)

    assert load_image(tmp_path / "a").size == (24, 16)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 100, 200, 128), (127, 177, 227)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("LA", (0, 0), (255, 255, 255)),
    ],
)
def test_an_alpha_channel_is_blended_with_white(tmp_path, mode, colour, expected):
    Image.new(mode, (2, 2), colour).save(tmp_path / "a.png")
    assert first_pixel(tmp_path / "a.png") == expected


@pytest.mark.parametrize(
    ("mode", "colour", "other"),
    [("RGB", (10, 20, 30), 200), ("L", 10, 200), ("1", 0, 1), ("I;16", 5000, 30_000)],
)
def test_a_transparent_colour_becomes_white(tmp_path, mode, colour, other):
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), other)
    image.save(tmp_path / "a.png", transparency=colour)
    opaque = Image.new(mode, (1, 1), other)
    opaque.save(tmp_path / "opaque.png")

    assert first_pixel(tmp_path / "a.png") == (255, 255, 255)
    assert load_image(tmp_path / "a.png").getpixel((1, 0)) == first_pixel(tmp_path / "opaque.png")


def test_a_palette_is_converted(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")

    assert first_pixel(tmp_path / "a.png") == (9, 8, 7)
    assert load_image(tmp_path / "a.png").getpixel((1, 0)) == (200, 100, 50)


def test_a_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)

    assert first_pixel(tmp_path / "a.png") == (255, 255, 255)
    assert load_image(tmp_path / "a.png").getpixel((1, 0)) == (200, 100, 50)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, name):
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    if name == "a.pgm":
        (tmp_path / name).write_bytes(b"P5 5 1 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / name)

    image = load_image(tmp_path / name)
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_one_bit_is_converted(tmp_path):
    Image.new("1", (2, 2), 1).save(tmp_path / "bit.png")
    assert first_pixel(tmp_path / "bit.png") == (255, 255, 255)


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    assert np.allclose(first_pixel(tmp_path / "ink.jpg"), (255, 0, 0), atol=4)


def test_the_first_image_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    assert first_pixel(tmp_path / "a.gif") == (255, 0, 0)


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert first_pixel(tmp_path / "a.png") == (1, 2, 3)


PNG = encode(photo(), "PNG")
JPEG = encode(photo(), "JPEG")
BAD_FILES = {
    "empty.jpg": (b"", r"the file is empty \(0 bytes\)"),
    "text.jpg": (b"<html>404 not found</html>", "its 26 bytes are no image"),
    "zeros.png": (bytes(1000), "its 1000 bytes are no image"),
    "header.png": (PNG[:20], "or the header is damaged|truncated or corrupt"),
    "cut.png": (PNG[: len(PNG) // 2], "truncated or corrupt"),
    "cut.jpg": (JPEG[: len(JPEG) - 60], "truncated or corrupt"),
    "cut.bmp": (encode(photo(), "BMP")[:200], "truncated or corrupt"),
    "cut.webp": (encode(photo(), "WEBP")[:60], "truncated or corrupt|are no image"),
    "flipped.png": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "truncated or corrupt"),
    "short.png": (png_of_size(50, 50), "truncated or corrupt"),
    "large.png": (
        png_of_size(10_000, 9_000),
        r"more than 89478485 pixels \(.*(90000000|10000 x 9000) pixels",
    ),
    "bomb.png": (png_of_size(60_000, 60_000), r"more than 89478485 pixels \(.*3600000000 pixels"),
    "float.tif": (encode(Image.new("F", (2, 2)), "TIFF"), "its mode is 'F', whose range"),
    "thirty_two.tif": (encode(Image.new("I", (2, 2)), "TIFF"), "its mode is 'I', whose range"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_what_to_do(tmp_path, name):
    content, problem = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)

    path = re.escape(str(tmp_path / name))
    with pytest.raises(
        ValueError, match=rf"^load_image: cannot read {path}: .*(?:{problem})"
    ) as caught:
        load_image(tmp_path / name)

    remedies = ("Restore the file", "Shrink it", "Convert it")
    assert any(remedy in str(caught.value) for remedy in remedies)


def test_a_large_image_is_an_error_if_warnings_are_errors(tmp_path):
    (tmp_path / "a.png").write_bytes(png_of_size(10_000, 9_000))
    with pytest.raises(ValueError, match=r"load_image: .*a\.png"):
        load_image(tmp_path / "a.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"load_image: cannot read .*no\.jpg: there is no such file"
    ):
        load_image(tmp_path / "no.jpg")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_damage_ends_in_an_image_or_a_clear_error(tmp_path, monkeypatch, file_format, data):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)

    content = bytearray(encode(photo(), file_format))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(content)))

    path = tmp_path / "a.img"
    path.write_bytes(content[:length])

    try:
        image = load_image(path)
    except ValueError as error:
        assert str(error).startswith(f"load_image: cannot read {path}: ")  # noqa: PT017  both ends are right
    else:
        assert image.mode == "RGB"


def test_a_format_for_which_pillow_starts_a_program_is_refused(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"are no image \(JPEG, PNG"):
        load_image(path)


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_a_format_of_the_list_is_read_under_any_suffix(tmp_path, file_format):
    (tmp_path / "photo.jpg").write_bytes(encode(photo(), file_format))
    assert load_image(tmp_path / "photo.jpg").size == (16, 24)


def exif_with_text_as_width():
    """An EXIF block that turns the image, with a width of type ASCII, which cannot be rewritten."""
    width = struct.pack("<HHI4s", 0x0100, 2, 4, b"16\0\0")
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    directory = struct.pack("<H", 2) + width + orientation + struct.pack("<I", 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory


def test_an_orientation_beside_a_field_of_a_wrong_type_is_applied(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(photo(), "JPEG", exif=exif_with_text_as_width()))
    (tmp_path / "plain.jpg").write_bytes(encode(photo(), "JPEG"))

    turned = load_image(tmp_path / "plain.jpg").transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(load_image(tmp_path / "a.jpg"), turned)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(encode(photo(), "PNG", exif=exif))

    with Image.open(tmp_path / "a.png") as image:
        expected = ImageOps.exif_transpose(image)
    assert np.array_equal(load_image(tmp_path / "a.png"), expected)


def test_a_block_that_cannot_be_read_is_said_and_the_pixels_are_read(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(photo(), "PNG", exif=b"no TIFF at all"))
    with pytest.warns(UserWarning, match=r"the EXIF block of .*a\.png cannot be read"):
        image = load_image(tmp_path / "a.png")
    assert np.array_equal(image, photo())


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders")
def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"load_image: cannot read .*: it is a named pipe"):
        load_image(tmp_path / "a.jpg")


def test_a_sparse_file_of_gigabytes_is_refused(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as sparse:
        sparse.truncate(8 << 30)
    with pytest.raises(ValueError, match="it has 8589934592 bytes, more than the limit"):
        load_image(tmp_path / "a.jpg")


class TestParts:
    def part(self, folder, box, **options):
        photo().save(folder / "a.png", **options)
        return load_image(f"{folder}/a.png#xywh={box}")

    def test_a_box_gives_that_part(self, tmp_path):
        assert same_pixels(self.part(tmp_path, "2,3,10,8"), photo().crop((2, 3, 12, 11)))

    def test_a_box_goes_as_far_as_the_image(self, tmp_path):
        assert same_pixels(self.part(tmp_path, "-5,20,100,100"), photo().crop((0, 20, 16, 24)))

    def test_a_box_is_of_the_upright_image(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter to the right
        upright = photo().transpose(Image.Transpose.ROTATE_270)
        assert same_pixels(self.part(tmp_path, "20,1,4,4", exif=exif), upright.crop((20, 1, 24, 5)))

    @pytest.mark.parametrize("box", ["16,0,3,3", "0,-5,3,5", "0,0,0,3"])
    def test_a_box_outside_of_the_image_is_an_error(self, tmp_path, box):
        with pytest.raises(
            ValueError, match=r"a\.png#xywh=.* outside of the image, .* 16 x 24 pixels"
        ):
            self.part(tmp_path, box)

    def test_in_an_archive(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("b.png", encode(photo(), "PNG"))
        image = load_image(f"{tmp_path}/a.zip::b.png#xywh=0,0,2,2")
        assert same_pixels(image, photo().crop((0, 0, 2, 2)))


def test_an_image_in_memory_with_a_limit_of_pixels():
    content = encode(photo(), "PNG")
    assert decode_image(content, "it", max_pixels=24 * 16).size == (16, 24)
    with pytest.raises(ValueError, match=r"cannot read it: it has more than 383 pixels \(16 x 24"):
        decode_image(content, "it", max_pixels=24 * 16 - 1)
