"""Resizing steps: stretch, pad or crop to a size, and a random crop."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from clipreid_kit.data.images.image_spec import ImageSpec, Interpolation

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def resize_step(
    spec: ImageSpec, interpolation: Interpolation
) -> Callable[[Image.Image], Image.Image]:
    """Return the step that resizes an image to ``spec.image_size`` in the way of ``spec.fit``."""
    if spec.fit == "pad":
        return PadToSize(spec.image_size, interpolation, spec.fill)
    if spec.fit == "crop":
        return CropToSize(spec.image_size, interpolation)
    return StretchToSize(spec.image_size, interpolation)


@dataclass(frozen=True)
class StretchToSize:
    """Resize an image to exactly the size, whatever its aspect ratio.

    The pixels are those of torchvision's ``Resize``.
    """

    size: tuple[int, int]
    interpolation: Interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a new image."""
        height, width = self.size
        return image.resize((width, height), _FILTERS[self.interpolation])


@dataclass(frozen=True)
class PadToSize:
    """Resize an image until it just fits inside the size, and fill the rest evenly."""

    size: tuple[int, int]
    interpolation: Interpolation
    fill: int | tuple[int, int, int]

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a new image of exactly the size."""
        height, width = self.size

        # Rounding may leave the inner image one pixel too large, or without any.
        scale = min(height / image.height, width / image.width)
        inner_width = max(1, min(width, round(image.width * scale)))
        inner_height = max(1, min(height, round(image.height * scale)))
        resized = image.resize((inner_width, inner_height), _FILTERS[self.interpolation])

        colour = (self.fill,) * 3 if isinstance(self.fill, int) else self.fill
        canvas = Image.new("RGB", (width, height), colour)
        canvas.paste(resized, ((width - inner_width) // 2, (height - inner_height) // 2))
        return canvas


@dataclass(frozen=True)
class CropToSize:
    """Resize an image until it just covers the size, and cut the excess evenly from both sides.

    For squares the pixels are those of torchvision's ``Resize(side)`` and ``CenterCrop(side)``.
    """

    size: tuple[int, int]
    interpolation: Interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a new image of exactly the size."""
        from torchvision.transforms.v2.functional import center_crop

        height, width = self.size

        # Compared by products of integers: the image is wider than the size, or narrower.
        if image.height * width <= image.width * height:
            outer = (image.width * height // image.height, height)
        else:
            outer = (width, image.height * width // image.width)
        resized = image.resize(outer, _FILTERS[self.interpolation])

        cropped: Image.Image = center_crop(resized, [height, width])
        return cropped


@dataclass(frozen=True)
class RandomFractionCrop:
    """Crop a random part that keeps a fraction of the width and of the height."""

    fraction: float

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a new image, at least one pixel in size."""
        from torchvision.transforms.v2 import RandomCrop

        height = max(1, int(image.height * self.fraction))
        width = max(1, int(image.width * self.fraction))

        cropped: Image.Image = RandomCrop([height, width])(image)
        return cropped
