"""Cameras and views as a model was trained to know them."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.records import ImageRecord


class CategoryIndex:
    """Numbers for the cameras, or the views, of training images, from 0; -1 for any other.

    Use it for towers with a camera or view embedding, whose rows belong to the cameras of the training images: the
    same object numbers the images of the test.

    Args:
        records: The training images.
        field: ``"camera"`` or ``"view"``.

    Attributes:
        field: As given.
        known: The number of each camera or view, in the order of their names; the integer 1 and the
            string "1" are two.

    Raises:
        ValueError: If there are no records, or one has no camera (view).

    Example:
        >>> train = [ImageRecord(f"{n}.jpg", n, camera=f"gate {n % 2}") for n in range(4)]
        >>> cameras = CategoryIndex(train, "camera")
        >>> len(cameras), cameras.of(train), cameras.of([ImageRecord("x.jpg", 9, camera="yard")])
        (2, tensor([0, 1, 0, 1]), tensor([-1]))
    """

    def __init__(self, records: Sequence[ImageRecord], field: Literal["camera", "view"]) -> None:
        check_choice("CategoryIndex", "field", field, ("camera", "view"))
        bare = [record.path for record in records if getattr(record, field) is None]
        if bare or not records:
            got = f"none for {len(bare)} ({bare[0]}, ...)" if bare else "no images"
            remedy = (
                f"Use nothing that is learned for each {field}, or read the images with theirs."
            )
            raise fail("CategoryIndex", f"a {field} for every training image", got, remedy)
        self.field = field
        names = sorted(
            {getattr(record, field) for record in records},
            key=lambda name: (str(name), isinstance(name, str)),
        )
        self.known: dict[int | str, int] = {name: number for number, name in enumerate(names)}

    def __len__(self) -> int:
        """Count the cameras (views) of the training images."""
        return len(self.known)

    def of(self, records: Sequence[ImageRecord]) -> Int[Tensor, " n"]:
        """Give the number of each record; -1 where the training images did not have its camera (view)."""
        return torch.tensor(
            [self.known.get(getattr(record, self.field), -1) for record in records],
            dtype=torch.int64,
        )
