"""Images in any form that a caller may have: paths, records, PIL images, arrays and tensors."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from clipreid_kit.data.images.load_image import as_upright_rgb, load_image
from clipreid_kit.data.records import ImageRecord

ImageInput = str | os.PathLike[str] | ImageRecord | Image.Image | npt.NDArray[Any] | Tensor

_OWNER = "Encoder"


def listed_inputs(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """Return a list of images, also of a single one."""
    if isinstance(images, str | os.PathLike | ImageRecord | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        return [images] if images.ndim <= 3 else list(images)
    return list(images)


def name_of(image: ImageInput, row: int) -> str:
    """Return the path of an image, or its number."""
    if isinstance(image, ImageRecord):
        return image.path
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    return f"image {row}"


def read_input(image: ImageInput, row: int) -> Image.Image:
    """Return an image as upright 8-bit RGB.

    Raises:
        ValueError: If it cannot be read, or is of no known form.
    """
    if isinstance(image, ImageRecord):
        return load_image(image.path)
    if isinstance(image, str | os.PathLike):
        return load_image(image)
    if isinstance(image, Image.Image):
        return as_upright_rgb(image, name_of(image, row))
    if isinstance(image, np.ndarray):
        return _from_array(image, row)
    if isinstance(image, Tensor):
        is_colour = image.ndim == 3 and image.shape[0] == 3
        channels_last = image.permute(1, 2, 0) if is_colour else image
        return _from_array(channels_last.cpu().numpy(), row)

    raise ValueError(
        f"{_OWNER}: image {row} is a {type(image).__name__}. Pass paths, records, PIL images, or "
        "uint8 arrays (H, W, 3)."
    )


def _from_array(array: npt.NDArray[Any], row: int) -> Image.Image:
    """Return an array of bytes as an image."""
    is_grey = array.ndim == 2
    is_colour = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or array.size == 0 or not (is_grey or is_colour):
        raise ValueError(
            f"{_OWNER}: image {row} is an array {array.shape} of {array.dtype}. Pass uint8 arrays "
            "(H, W, 3) or (H, W), or tensors (3, H, W), with values from 0 to 255."
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
