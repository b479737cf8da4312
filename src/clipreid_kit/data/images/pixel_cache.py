"""Decoded images in shared memory."""

from collections.abc import Sequence

import torch
from PIL import Image

from clipreid_kit.data.images.load_image import load_image
from clipreid_kit.data.records import ImageRecord


class PixelCache:
    """Decoded images of any sizes in one uint8 tensor, which worker processes share."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        pixels = bytearray()
        self._sizes: list[tuple[int, int]] = []
        self._starts = [0]

        for record in records:
            image = load_image(record.path)
            pixels += image.tobytes()
            self._sizes.append(image.size)
            self._starts.append(len(pixels))

        self._pixels = torch.frombuffer(pixels, dtype=torch.uint8)

    def __getitem__(self, row: int) -> Image.Image:
        """Return the image of a record."""
        content = self._pixels[self._starts[row] : self._starts[row + 1]].numpy()
        return Image.frombytes("RGB", self._sizes[row], content.data)
