"""Conversion of an RGB image to the normalised tensor that an image tower takes."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clipreid_kit.data.images.image_spec import RGB


@dataclass(frozen=True)
class ToNormalizedTensor:
    """Convert an RGB image to a float32 tensor (3, height, width), minus mean, divided by std.

    The values are those of torchvision's ``ToImage``, ``ToDtype(float32, scale=True)`` and
    ``Normalize``, bit by bit, in a third of the time: a plain tensor, without torchvision's
    subclass, and with constants that are built once instead of for each image.
    """

    mean: RGB
    std: RGB
    _mean: Tensor = field(init=False, repr=False, compare=False)
    _std: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The class is frozen: object.__setattr__ is the documented way to derive a field.
        object.__setattr__(self, "_mean", _channel_column(self.mean))
        object.__setattr__(self, "_std", _channel_column(self.std))

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """Return a new tensor."""
        # NumPy reorders to channels first and converts in one pass; torch needs two slower ones.
        levels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
        return torch.from_numpy(levels).mul_(1.0 / 255).sub_(self._mean).div_(self._std)


def _channel_column(values: RGB) -> Tensor:
    """Return one value for each channel, shape (3, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None]
