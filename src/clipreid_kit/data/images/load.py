"""Decoding: any image file to one upright 8-bit RGB picture, or one clear error."""

import io
import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from clipreid_kit._checks import fail
from clipreid_kit.data.files.archives import read_bytes


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """Load an image as upright 8-bit RGB.

    Use it wherever an image is read, so that training, evaluation and retrieval see the same pixels.

    - EXIF orientation is applied.
    - Transparent parts (alpha channel, transparent palette entry or colour) are laid on white.
    - 16-bit grey is scaled to 8 bits (65535 becomes 255), not clipped. 1-bit, palette, grey, CMYK and YCbCr
      are converted. Images of floats or 32-bit integers have no stated range and are refused.
    - Of an animation or a multi-page file, the first picture is taken.
    - An image of more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels (89 million unless changed) is refused
      before it is decoded.

    Args:
        path: An image file, or ``archive.zip::member`` for a file inside a zip archive, which is read in
            place.

    Returns:
        A picture of mode ``RGB``.

    Raises:
        ValueError: If the file is missing, empty, not an image, truncated, corrupt or too large. The text
            names the file, what happened and what to do.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "grey.png")
        ...     Image.new("L", (2, 3), color=7).save(path)
        ...     image = load_image(path)
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (2, 3), (7, 7, 7))
    """
    content = read_bytes("load_image", path)
    name = os.fspath(path)
    if not content:
        raise fail("load_image", "an image", f"an empty file (0 bytes): {name}", _REMEDY)
    image = _open(content, name)
    try:
        image.load()
        if image.format != "JPEG" or not _ORIENTED.isdisjoint(image.info):
            ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
    except (
        Exception
    ) as error:  # decoders of damaged files raise anything: OSError, SyntaxError, struct.error, ...
        raise _damaged(name, error) from error


_REMEDY = "Restore the file, or leave its record out."
_ORIENTED = frozenset(
    {"exif", "xmp", "XML:com.adobe.xmp"}
)  # where a JPEG file may say which way is up
_SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA = frozenset({"LA", "PA", "RGBA", "RGBa"})
_READABLE = (
    _SIXTEEN_BITS | _ALPHA | frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
)


def _open(content: bytes, name: str) -> Image.Image:
    """Read the header, and refuse what can be refused by it."""
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except UnidentifiedImageError as error:
        expected = "an image (JPEG, PNG, WebP, BMP, TIFF or GIF)"
        got = f"{len(content)} bytes of something else, or of a damaged header: {name}"
        raise fail("load_image", expected, got, _REMEDY) from error
    except Exception as error:
        raise _damaged(name, error) from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _too_large(name, f"{image.width} x {image.height} pixels")
    # PNG and PGM store 16 bits at most, and older Pillow opens those in its 32-bit mode.
    whole_range_known = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode not in _READABLE and not whole_range_known:
        remedy = "Its range is not stated in the file: convert it to 8 or 16 bits yourself."
        raise fail("load_image", "an image of 8 or 16 bits", f"mode {image.mode!r}: {name}", remedy)
    return image


def _too_large(name: str, size: str) -> ValueError:
    remedy = "Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file."
    return fail(
        "load_image",
        f"an image of at most {Image.MAX_IMAGE_PIXELS} pixels",
        f"{name}: {size}",
        remedy,
    )


def _damaged(name: str, error: Exception) -> ValueError:
    got = f"a truncated or corrupt one: {name} ({type(error).__name__}: {error})"
    return fail("load_image", "a whole image", got, _REMEDY)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode in _SIXTEEN_BITS:
        values = np.asarray(image).astype(np.uint32)
        eight_bits = ((values * 255 + 32767) // 65535).astype(np.uint8)
        eight_bits[values == image.info.get("transparency", -1)] = 255
        return Image.fromarray(eight_bits).convert("RGB")
    if image.mode in _ALPHA or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
