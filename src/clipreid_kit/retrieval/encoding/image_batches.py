"""Batches of images for an encoder, loaded by any number of processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from clipreid_kit.data.images.occlusion import Occlusion
from clipreid_kit.retrieval.encoding.image_inputs import ImageInput, name_of, read_input

Transform = Callable[[Image.Image], Tensor]

_OWNER = "Encoder"


class Unreadable(NamedTuple):
    """An image that cannot be read.

    Attributes:
        row: Its row among the images.
        reason: The error.
    """

    row: int
    reason: str


class ImageBatch(NamedTuple):
    """Images that were loaded together.

    Attributes:
        rows: (N,), rows of the images, int64.
        images: (N, 3, H, W); ``None`` if none of the batch can be read.
        unreadable: Those that cannot be read.
    """

    rows: Tensor
    images: Tensor | None
    unreadable: list[Unreadable]


def image_batches(
    images: Sequence[ImageInput],
    transform: Transform,
    *,
    angle: float,
    fill: int | tuple[int, int, int],
    batch_size: int,
    workers: int,
    occlusion: Occlusion | None = None,
) -> Iterator[ImageBatch]:
    """Yield all images in order, each read, turned and transformed.

    Args:
        images: The images.
        transform: From an image to a tensor (3, H, W).
        angle: Angle in degrees, counter-clockwise, that images are turned by.
        fill: Colour of the corners of turned images.
        batch_size: Images of a batch.
        workers: Processes that load them, where there are more than a few batches.
        occlusion: What hides a part of each image as it was read. ``None`` to hide nothing.
    """
    # Starting processes takes longer than loading a few images.
    enough = len(images) > 4 * batch_size
    dataset = _Images(images, transform, angle, fill, occlusion)
    loader: DataLoader[ImageBatch] = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size,
        num_workers=workers if enough else 0,
        collate_fn=_collate,
        generator=torch.Generator(),
    )
    yield from loader


class _Loaded(NamedTuple):
    """One image, or the reason why there is none."""

    row: int
    image: Tensor | None
    reason: str


class _Images(Dataset[_Loaded]):
    """Images, read when they are asked for."""

    def __init__(
        self,
        images: Sequence[ImageInput],
        transform: Transform,
        angle: float,
        fill: int | tuple[int, int, int],
        occlusion: Occlusion | None,
    ) -> None:
        self._images = images
        self._transform = transform
        self._angle = angle
        self._fill = fill
        self._occlusion = occlusion

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> _Loaded:
        # The error goes to the main process as a text: a data loader would wrap it in a traceback.
        try:
            image = read_input(self._images[row], row)
            if self._occlusion is not None:
                image = self._occlusion(image)
        except ValueError as error:
            return _Loaded(row, None, str(error))

        if self._angle:
            fill = self._fill if isinstance(self._fill, int) else list(self._fill)
            image = v2.functional.rotate(
                image, self._angle, interpolation=v2.InterpolationMode.BILINEAR, fill=fill
            )

        transformed: object = self._transform(image)
        if not isinstance(transformed, Tensor):
            name = name_of(self._images[row], row)
            raise ValueError(
                f"{_OWNER}: the transform returned a {type(transformed).__name__} for {name}; it "
                "has to return a tensor (3, H, W)."
            )
        return _Loaded(row, transformed, "")


def _collate(items: Sequence[_Loaded]) -> ImageBatch:
    """Stack the images that could be read."""
    readable = [item for item in items if item.image is not None]
    images = [item.image for item in readable if item.image is not None]
    return ImageBatch(
        rows=torch.tensor([item.row for item in readable], dtype=torch.int64, device="cpu"),
        images=torch.stack(images) if images else None,
        unreadable=[Unreadable(item.row, item.reason) for item in items if item.image is None],
    )
