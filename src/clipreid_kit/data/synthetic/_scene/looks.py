"""Looks of a whole data set, which make another domain of it."""

from collections.abc import Callable
from typing import Literal

from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

SyntheticLook = Literal["plain", "night", "drawing"]

_NIGHT = ((6, 8, 22), (120, 142, 190))  # what black and white become


def apply_look(image: Image.Image, look: SyntheticLook) -> Image.Image:
    """Return an image in a look; it depends on the image alone.

    Args:
        image: An RGB image.
        look: ``"plain"`` leaves it as it is; ``"night"`` is dark, bluish and nearly without
            colours; ``"drawing"`` is pale, with dark outlines.
    """
    looks: dict[str, Callable[[Image.Image], Image.Image]] = {
        "plain": Image.Image.copy,
        "night": _night,
        "drawing": _drawing,
    }
    return looks[look](image)


def _night(image: Image.Image) -> Image.Image:
    grey = ImageOps.colorize(image.convert("L"), *_NIGHT)
    return Image.blend(grey, ImageEnhance.Brightness(image).enhance(0.5), 0.3)


def _drawing(image: Image.Image) -> Image.Image:
    pale = Image.blend(image, Image.new("RGB", image.size, "white"), 0.55)
    edges = ImageOps.invert(
        ImageOps.autocontrast(image.convert("L").filter(ImageFilter.FIND_EDGES))
    )
    return ImageChops.multiply(pale, Image.merge("RGB", [edges] * 3))
