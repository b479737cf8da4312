"""Several augmented views of one image, for self-supervision and multi-view supervision."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from clipreid_kit._checks import check_integer


class MultiViewTransform:
    """Apply a random transform several times to an image, and stack what it returns.

    Use it around :func:`train_transform` in a :class:`ReidDataset`. A batch of the loader then has
    the shape (N, V, 3, H, W); flatten the first two dimensions, and repeat labels and captions::

        images = batch.image.flatten(0, 1)
        labels = batch.label.repeat_interleave(2)

    Args:
        transform: Callable from an image to a tensor (3, H, W), with random augmentation.
        num_views: Views V of each image, at least 1.

    Raises:
        ValueError: If ``num_views`` is out of its range.

    Example:
        >>> from clipreid_kit.data import train_transform
        >>> transform = MultiViewTransform(train_transform(8, pad=2), num_views=2)
        >>> transform(Image.new("RGB", (4, 4), "red")).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], num_views: int = 2) -> None:
        check_integer("MultiViewTransform", "num_views", num_views, 1)
        self.transform = transform
        self.num_views = num_views

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the views of an image (V, 3, H, W)."""
        return torch.stack([self.transform(image) for _ in range(self.num_views)])

    def __repr__(self) -> str:
        return f"MultiViewTransform({self.transform!r}, num_views={self.num_views})"
