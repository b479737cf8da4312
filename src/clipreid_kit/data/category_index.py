"""Numbers for the cameras, views or modalities that a model was trained with."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from clipreid_kit._checks import check_choice
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.data.records import ImageRecord

Field = Literal["camera", "view", "modality"]


@fixed_options(not_kept=("records",))
class CategoryIndex:
    """Numbers from 0 for cameras, views or modalities of the training images; -1 for any other.

    Use it for towers with a camera or view embedding, whose rows belong to the cameras of the
    training images: build one from the training images, and number query and gallery images with
    it.

    Args:
        records: The training images.
        field: ``"camera"``, ``"view"`` or ``"modality"``.

    Attributes:
        field: As given.
        known: The number of each camera or view, in the order of their names. The integer 1 and the
            string ``"1"`` are different.

    Raises:
        ValueError: If there are no records, or a record has no camera (view).

    Example:
        >>> train = [ImageRecord(f"{n}.jpg", n, camera=f"gate {n % 2}") for n in range(4)]
        >>> cameras = CategoryIndex(train, "camera")
        >>> cameras
        CategoryIndex(field='camera', num_known=2)
        >>> cameras.of(train), cameras.of([ImageRecord("x.jpg", 9, camera="yard")])
        (tensor([0, 1, 0, 1]), tensor([-1]))
    """

    field: Final[Field]

    def __init__(self, records: Sequence[ImageRecord], field: Field) -> None:
        check_choice("CategoryIndex", "field", field, ("camera", "view", "modality"))
        self.field = field

        if not records:
            raise ValueError("CategoryIndex: there are no records. Pass the training images.")

        without = [record.path for record in records if getattr(record, field) is None]
        if without:
            raise ValueError(
                f"CategoryIndex: {len(without)} of {len(records)} training images have no {field} "
                f"({without[0]}, ...). Read them with a {field}, or train without what "
                f"distinguishes them by {field}."
            )

        names = {getattr(record, field) for record in records}
        in_order = sorted(names, key=lambda name: (str(name), isinstance(name, str)))
        self.known: dict[int | str, int] = {name: number for number, name in enumerate(in_order)}

    @classmethod
    def of_names(cls, names: Sequence[int | str], field: Field) -> "CategoryIndex":
        """Build the index again from the names that it knew, as the card of a checkpoint has them.

        Args:
            names: The cameras or views.
            field: ``"camera"``, ``"view"`` or ``"modality"``.

        Raises:
            ValueError: If there are no names.

        Example:
            >>> CategoryIndex.of_names(["gate 1", "gate 0"], "camera").known
            {'gate 0': 0, 'gate 1': 1}
        """
        options: list[dict[str, Any]] = [{field: name} for name in names]
        return cls([ImageRecord("", 0, **option) for option in options], field)

    def __len__(self) -> int:
        """Return the number of cameras (views) of the training images."""
        return len(self.known)

    def __repr__(self) -> str:
        return f"CategoryIndex(field={self.field!r}, num_known={len(self.known)})"

    def of(self, records: Sequence[ImageRecord]) -> Int[Tensor, " n"]:
        """Return the number of each record's camera (view); -1 if no training image has it.

        Args:
            records: Any images.

        Returns:
            Numbers (N,), int64; empty for no records.
        """
        numbers = [self.known.get(getattr(record, self.field), -1) for record in records]
        return torch.tensor(numbers, dtype=torch.int64, device="cpu")
