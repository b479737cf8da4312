"""Decoding of any image file to one upright 8-bit RGB image, or to one clear error."""

import io
import os
import warnings
from functools import cache

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from clipreid_kit.data.files.archives import UnreadableFileError, read_bytes, unreadable
from clipreid_kit.data.files.boxes import Box, split_box
from clipreid_kit.data.files.image_suffixes import add_heif_decoder

_REMEDY = "Restore the file, or leave its record out."

# Where a JPEG file may say which way is up.
_ORIENTATION_KEYS = frozenset({"exif", "xmp", "XML:com.adobe.xmp"})

_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow reads others too, and starts other programs for some, such as Ghostscript for EPS.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

_SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA", "RGBa"})
_EIGHT_BIT_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_READABLE_MODES = _SIXTEEN_BIT_MODES | _ALPHA_MODES | _EIGHT_BIT_MODES


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """Load an image as upright 8-bit RGB.

    Use it wherever an image is read, so that training, evaluation and retrieval see the same
    pixels.

    - EXIF orientation is applied. A warning names a file whose EXIF block cannot be read.
    - JPEG, PNG, WebP, BMP, TIFF, GIF, JPEG 2000, AVIF and PPM are read, whatever the suffix, and
      HEIC where ``pillow-heif`` is installed.
    - A path that ends in ``#xywh=left,top,width,height`` gives that part of the upright image, as
      far as the image goes.
    - Transparent parts (alpha channel, transparent palette entry or colour) become white.
    - 16-bit grey is scaled to 8 bits (65535 becomes 255), not clipped. 1-bit, palette, grey, CMYK
      and YCbCr images are converted. Images of floats or 32-bit integers are an error, because
      their range is not stated in the file.
    - Of an animation or a multi-page file, the first image is read.
    - An image of more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels (89 million unless changed) is an
      error before it is decoded.

    Args:
        path: An image file, or ``archive.zip::member`` for a file inside a zip archive, which is
            not unpacked; behind either, ``#xywh=...`` for a part of the image.

    Returns:
        An image of mode ``RGB``.

    Raises:
        ValueError: If the file is missing, empty, not an image, truncated, corrupt or too large, or
            the part lies outside of the image. The message names the file, what happened and what
            to do.

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
    image = decode_image(content, name)

    _, box = split_box(name)
    return image if box is None else _cropped(image, box, name)


def decode_image(content: bytes, name: str, *, max_pixels: int | None = None) -> Image.Image:
    """Decode the content of an image file as :func:`load_image` does, whatever its name says.

    Args:
        content: All bytes of the file.
        name: Its name in errors.
        max_pixels: Largest number of pixels; what has more is refused before it is decoded.
            ``None`` for Pillow's own limit, which holds in any case.

    Returns:
        An image of mode ``RGB``.

    Raises:
        ValueError: If it is empty, not an image, truncated, corrupt or too large.
    """
    if not content:
        raise unreadable("load_image", name, "the file is empty (0 bytes)", _REMEDY)

    image = _open(content, name, max_pixels)
    try:
        image.load()

        # A JPEG without these keys needs no search for an orientation, which takes longer.
        if image.format != "JPEG" or not _ORIENTATION_KEYS.isdisjoint(image.info):
            image = _upright(image, name)

        return _to_rgb(image)
    # Decoders of damaged files raise anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise _damaged(name, error) from error


def _cropped(image: Image.Image, box: Box, name: str) -> Image.Image:
    """Return the part of an image inside a box; detectors' boxes may go beyond the edges."""
    left = max(box.left, 0)
    top = max(box.top, 0)
    right = min(box.right, image.width)
    bottom = min(box.bottom, image.height)
    if left >= right or top >= bottom:
        raise unreadable(
            "load_image",
            name,
            f"the box lies outside of the image, which has {image.width} x {image.height} pixels",
            "Correct the box; it is left, top, width and height in pixels.",
        )
    return image.crop((left, top, right, bottom))


def as_upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an image in memory as :func:`load_image` returns one of a file.

    Args:
        image: Any image of Pillow.
        name: Its name in errors.

    Raises:
        ValueError: If its file is damaged, or its mode has no stated range of values.
    """
    if image.mode not in _READABLE_MODES:
        raise unreadable(
            "load_image",
            name,
            f"its mode is {image.mode!r}, whose range of values is not stated",
            "Convert it to 8 or 16 bits.",
        )
    try:
        image.load()
        return _to_rgb(_upright(image, name))
    except Exception as error:
        raise _damaged(name, error) from error


def _open(content: bytes, name: str, max_pixels: int | None) -> Image.Image:
    """Read the header, and raise ValueError for what cannot be read, before anything is decoded."""
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=_known_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error), Image.MAX_IMAGE_PIXELS) from error
    except UnidentifiedImageError as error:
        reason = (
            f"its {len(content)} bytes are no image (JPEG, PNG, WebP, BMP, TIFF or GIF), or the "
            "header is damaged"
        )
        raise unreadable("load_image", name, reason, _REMEDY) from error
    except Exception as error:
        raise _damaged(name, error) from error

    size = f"{image.width} x {image.height} pixels"
    for limit in (Image.MAX_IMAGE_PIXELS, max_pixels):
        if limit is not None and image.width * image.height > limit:
            raise _too_large(name, size, limit)

    # PNG and PGM store 16 bits at most, and older Pillow opens those in its 32-bit mode.
    is_sixteen_bit = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode not in _READABLE_MODES and not is_sixteen_bit:
        raise unreadable(
            "load_image",
            name,
            f"its mode is {image.mode!r}, whose range of values is not stated in the file",
            "Convert it to 8 or 16 bits.",
        )

    return image


@cache
def _known_formats() -> tuple[str, ...]:
    """Return the formats of the list that this Pillow was built for."""
    Image.init()
    add_heif_decoder()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Turn or mirror an image as its file says; warn of a file that says it in no readable way."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Readers of damaged EXIF blocks raise anything.
    except Exception as error:  # noqa: BLE001 (the pixels are whole)
        warnings.warn(
            f"load_image: the EXIF block of {name} cannot be read "
            f"({type(error).__name__}: {error}); its image may not be upright.",
            stacklevel=2,
        )
        return image

    method = _UPRIGHT_BY.get(orientation) if isinstance(orientation, int) else None
    if method is None:
        return image

    upright = image.transpose(method)
    for key in _ORIENTATION_KEYS:  # so that no later step applies the orientation again
        upright.info.pop(key, None)
    return upright


def _too_large(name: str, size: str, limit: int | None) -> UnreadableFileError:
    """Build the error for an image of too many pixels."""
    return unreadable(
        "load_image",
        name,
        f"it has more than {limit} pixels ({size})",
        "Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file.",
    )


def _damaged(name: str, error: Exception) -> UnreadableFileError:
    """Build the error for a file that ends too early or cannot be decoded."""
    reason = f"it is truncated or corrupt ({type(error).__name__}: {error})"
    return unreadable("load_image", name, reason, _REMEDY)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any readable mode to RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image

    if image.mode == "I" or image.mode in _SIXTEEN_BIT_MODES:
        return _sixteen_bits_to_rgb(image)

    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")

    return image.convert("RGB")


def _sixteen_bits_to_rgb(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, rounded to the nearest; a transparent value becomes white."""
    values = np.asarray(image).astype(np.uint32)
    eight_bits = ((values * 255 + 32767) // 65535).astype(np.uint8)
    eight_bits[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(eight_bits).convert("RGB")
