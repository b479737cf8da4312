"""Convert images of any kind to RGB pixels."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from clipreid_kit._checks import fail

ImageLike = Image.Image | UInt8[np.ndarray, "_ _ 3"]
"""A PIL image of any mode, or an array (height, width, 3) of uint8 in RGB order."""


def rgb_pixels(owner: str, name: str, image: ImageLike) -> UInt8[np.ndarray, "h w 3"]:
    """Convert an image to RGB pixels; transparent pixels are shown on white.

    Args:
        owner: The public function, for the error text.
        name: Name of the image, such as ``galleries[0][3]``, for the error text.
        image: A PIL image of any mode, or a uint8 array (height, width, 3).

    Returns:
        The given array itself, or the pixels of the PIL image.

    Raises:
        ValueError: If it is neither, is empty, or cannot be decoded.
    """
    if isinstance(image, Image.Image):
        pixels = _decoded(owner, name, image)
    else:
        _check_array(owner, name, image)
        pixels = image

    if 0 in pixels.shape:
        raise fail(owner, f"{name} with at least one pixel", f"shape {pixels.shape}")

    return pixels


def _check_array(owner: str, name: str, image: object) -> None:
    """Raise ValueError unless it is a uint8 array (height, width, 3)."""
    expected = f"{name} as a PIL image or a uint8 array (height, width, 3)"
    if not isinstance(image, np.ndarray):
        raise fail(owner, expected, type(image).__name__, "Open a file with PIL.Image.open.")

    if np.ma.is_masked(image):
        raise fail(owner, expected, "an array with masked pixels", "Fill them: image.filled(0).")

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        got = f"an array of shape {image.shape} and dtype {image.dtype}"
        remedy = (
            "From a float tensor (3, H, W) in [0, 1]: "
            "(255 * x).round().byte().permute(1, 2, 0).numpy()."
        )
        raise fail(owner, expected, got, remedy)


def _decoded(owner: str, name: str, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    try:
        return np.asarray(_on_white(image))
    except (OSError, SyntaxError, ValueError) as error:
        file = getattr(image, "filename", "") or "no file name"
        raise ValueError(
            f"{owner}: {name} is not readable: {error} ({file}). Replace or remove that file."
        ) from error


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")

    layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, "white")
    page.alpha_composite(layer)
    return page.convert("RGB")
