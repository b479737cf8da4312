"""What counts as an image here, and how it becomes RGB pixels."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from clipreid_kit._checks import fail

ImageLike = Image.Image | UInt8[np.ndarray, "_ _ 3"]
"""A PIL image of any mode, or an array (height, width, 3) of uint8 in RGB order."""


def rgb_pixels(owner: str, name: str, image: ImageLike) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image in RGB; transparent ones are laid on white.

    Args:
        owner: The public function, for the error text.
        name: Which image, such as ``galleries[0][3]``, for the error text.
        image: A PIL image of any mode, or a uint8 array (height, width, 3).

    Returns:
        The array itself where one was given, else a new one.

    Raises:
        ValueError: If it is neither, is empty, or cannot be decoded.
    """
    wanted = f"{name} as a PIL image or a uint8 array (height, width, 3)"
    if isinstance(image, Image.Image):
        try:
            pixels = np.asarray(_flattened(image))
        except (OSError, SyntaxError, ValueError) as error:
            file = getattr(image, "filename", "") or "no file name"
            remedy = "Replace or remove that file."
            raise fail(owner, f"{name} as a readable image", f"{error} ({file})", remedy) from error
    elif isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            got = f"an array of shape {image.shape} and dtype {image.dtype}"
            remedy = "From a float tensor (3, H, W) in [0, 1]: (255 * x).round().byte().permute(1, 2, 0).numpy()."
            raise fail(owner, wanted, got, remedy)
        pixels = image
    else:
        raise fail(owner, wanted, type(image).__name__, "Open a file with PIL.Image.open.")
    if 0 in pixels.shape:
        raise fail(owner, f"{name} with at least one pixel", f"shape {pixels.shape}")
    return pixels


def _flattened(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        page.alpha_composite(layer)
        return page.convert("RGB")
    return image.convert("RGB")
