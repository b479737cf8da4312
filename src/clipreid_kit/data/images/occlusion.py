"""Occluders that are generated into test images, the same for an image in every run."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from clipreid_kit._checks import check_choice, check_integer, check_number, fail
from clipreid_kit.data.images._image_checks import check_fill
from clipreid_kit.data.images.load_image import load_image

OccluderKind = Literal["bottom", "top", "left", "right", "rectangle", "patch"]
Box = tuple[int, int, int, int]  # left, upper, right, lower, in pixels

OCCLUDER_KINDS: tuple[OccluderKind, ...] = (
    *("bottom", "top", "left", "right"),
    *("rectangle", "patch"),
)

_OWNER = "Occlusion"
_MEAN_COLOUR = (123, 117, 104)  # CLIP's mean of red, green and blue


@dataclass(frozen=True)
class Occlusion:
    """Hide a part of an image behind a generated occluder.

    Use it to test how a model stands occlusion: pass it to :meth:`Encoder.occluded`, or call it on
    an image before the transform. The occluder depends on the seed, the kind and the pixels of the
    image alone, so that it is the same whatever the order, the batches, the workers or the folder,
    and for every model that is compared. With the same seed, occluders of different shares have the
    same place and shape where the image leaves room for it.

    Args:
        kind: ``"bottom"``, ``"top"``, ``"left"`` or ``"right"``: a stripe at that side of the
            image. ``"rectangle"``: a rectangle of random place and aspect ratio. ``"patch"``: the
            same, which shows that place of another image.
        share: Share of the area that is hidden, in [0, 1), to rounding; 0 hides nothing.
        seed: Seed of the places, shapes and other images, at least 0.
        fill: Colour in 0..255 of the occluder, one grey value or (red, green, blue); not of
            ``"patch"``. Defaults to CLIP's mean colour.
        images: Paths of the other images, for ``"patch"``; one of them is drawn. An image that
            looks the same in all pixels is never pasted onto itself.

    Raises:
        ValueError: If an argument is out of range, images are missing or given for another kind;
            and, from a call, if an image cannot be read.

    Example:
        >>> image = Image.new("RGB", (4, 10), "white")
        >>> occluded = Occlusion("bottom", 0.3, fill=0)(image)
        >>> [occluded.getpixel((0, row))[0] for row in range(10)]
        [255, 255, 255, 255, 255, 255, 255, 0, 0, 0]
    """

    kind: OccluderKind
    share: float
    seed: int = 0
    fill: int | tuple[int, int, int] = _MEAN_COLOUR
    images: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_choice(_OWNER, "kind", self.kind, OCCLUDER_KINDS)
        check_number(_OWNER, "share", self.share)
        if not 0 <= self.share < 1:
            raise fail(_OWNER, "share in [0, 1)", self.share)
        check_integer(_OWNER, "seed", self.seed, 0)
        check_fill(_OWNER, self.fill)
        if (self.kind == "patch") != (len(self.images) > 0):
            raise ValueError(
                f'{_OWNER}: kind="patch" pastes parts of other images, and no other kind does. '
                "Pass images with it, and only with it."
            )

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return an occluded copy of an RGB image; the image itself if nothing is hidden."""
        if self.share == 0:
            return image

        pixels = image.tobytes()
        draws = self._draws(pixels, image.size)
        box = self._box(draws, image.width, image.height)

        occluded = image.copy()
        if self.kind == "patch":
            other = self._other(draws, pixels, image.size)
            occluded.paste(other.crop(box), box)
        else:
            colour = (self.fill,) * 3 if isinstance(self.fill, int) else tuple(self.fill)
            occluded.paste(colour, box)
        return occluded

    def _draws(self, pixels: bytes, size: tuple[int, int]) -> random.Random:
        """Random numbers that depend on the seed, the kind and the image alone."""
        start = hashlib.blake2b(f"{self.seed} {self.kind} {size} ".encode(), digest_size=8)
        start.update(pixels)
        return random.Random(start.digest())  # noqa: S311 (no secret)

    def _box(self, draws: random.Random, width: int, height: int) -> Box:
        """The part of the image that is hidden."""
        rows, columns = _pixels(self.share, height), _pixels(self.share, width)
        match self.kind:
            case "bottom":
                return 0, height - rows, width, height
            case "top":
                return 0, 0, width, rows
            case "left":
                return 0, 0, columns, height
            case "right":
                return width - columns, 0, width, height

        # any height from the share to 1, and the width that makes up the area
        tall = self.share ** draws.random()
        rows, columns = _pixels(tall, height), _pixels(self.share / tall, width)
        left = round(draws.random() * (width - columns))
        upper = round(draws.random() * (height - rows))
        return left, upper, left + columns, upper + rows

    def _other(self, draws: random.Random, pixels: bytes, size: tuple[int, int]) -> Image.Image:
        """Another image of the same size, with other pixels."""
        first = draws.randrange(len(self.images))
        for step in range(len(self.images)):
            path = self.images[(first + step) % len(self.images)]
            other = load_image(path).resize(size, Image.Resampling.BICUBIC)
            if other.tobytes() != pixels:
                return other

        raise ValueError(
            f"{_OWNER}: all {len(self.images)} images equal the one to occlude. Pass others."
        )


def _pixels(share: float, side: int) -> int:
    """A share of a side in whole pixels, at least one."""
    return max(1, round(share * side))
