"""Suffixes of image files, and those that can be decoded only where Pillow has a decoder."""

from functools import cache
from importlib.util import find_spec

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes that every Pillow decodes."""

AVIF_SUFFIXES = (".avif",)
HEIF_SUFFIXES = (".heic", ".heif")


@cache
def decodable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of images that can be decoded here, in lower case."""
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    if _decodes_avif():
        suffixes += AVIF_SUFFIXES
    if find_spec("pillow_heif") is not None:
        suffixes += HEIF_SUFFIXES
    return suffixes


def add_heif_decoder() -> None:
    """Add the decoder of HEIC to Pillow, where it is installed."""
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _decodes_avif() -> bool:
    """Return whether this Pillow was built with AVIF."""
    from PIL import Image

    Image.init()
    return "AVIF" in Image.OPEN
