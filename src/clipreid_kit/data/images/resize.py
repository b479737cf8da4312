"""Three ways to bring a picture to a size, and a random part of it."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torchvision.transforms import v2

from clipreid_kit.data.images.image_spec import ImageSpec, Interpolation

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def fitting(spec: ImageSpec, interpolation: Interpolation) -> list[Callable[..., object]]:
    """The step that brings a picture to the size of a spec, in the way of the spec."""
    if spec.fit == "pad":
        return [PadToSize(spec.image_size, interpolation, spec.fill)]
    if spec.fit == "crop":
        return [CropToSize(spec.image_size, interpolation)]
    return [Stretch(spec.image_size, interpolation)]


@dataclass(frozen=True)
class Stretch:
    """Resize a picture to exactly the size, whatever its aspect; torchvision's ``Resize``, pixel by pixel."""

    size: tuple[int, int]
    interpolation: Interpolation

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return a new picture."""
        return picture.resize((self.size[1], self.size[0]), _FILTERS[self.interpolation])


@dataclass(frozen=True)
class PadToSize:
    """Resize a picture until it just fits inside, and fill the rest evenly on both sides."""

    size: tuple[int, int]
    interpolation: Interpolation
    fill: int | tuple[int, int, int]

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return a new picture of exactly the size."""
        height, width = self.size
        scale = min(height / picture.height, width / picture.width)
        inner = (
            max(1, min(width, round(picture.width * scale))),
            max(1, min(height, round(picture.height * scale))),
        )
        resized = picture.resize(inner, _FILTERS[self.interpolation])
        colour = (self.fill,) * 3 if isinstance(self.fill, int) else self.fill
        paper = Image.new("RGB", (width, height), colour)
        paper.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return paper


@dataclass(frozen=True)
class CropToSize:
    """Resize a picture until it just covers the size, and cut what is too much evenly from both sides.

    For squares this is torchvision's ``Resize(side)`` and ``CenterCrop(side)``, pixel by pixel.
    """

    size: tuple[int, int]
    interpolation: Interpolation

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return a new picture of exactly the size."""
        height, width = self.size
        if picture.height * width <= picture.width * height:  # the height decides
            outer = (picture.width * height // picture.height, height)
        else:
            outer = (width, picture.height * width // picture.width)
        cut: Image.Image = v2.functional.center_crop(
            picture.resize(outer, _FILTERS[self.interpolation]), [height, width]
        )
        return cut


@dataclass(frozen=True)
class RandomShare:
    """Keep a random part that has a share of the width and of the height."""

    share: float

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return a new picture, of one pixel at least."""
        size = [max(1, int(side * self.share)) for side in (picture.height, picture.width)]
        part: Image.Image = v2.RandomCrop(size)(picture)
        return part
