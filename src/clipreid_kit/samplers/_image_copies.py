"""Rows that are copies of one image, of which a batch shows one after the other."""

import numpy as np

from clipreid_kit.samplers._integers import (
    IntArray,
    Integers,
    Positions,
    read_column,
    stable_order,
)


class ImageCopies:
    """Copies of the images of each identity.

    Args:
        owner: Name for error texts.
        labels: Identity of each row.
        images: Image of each row. Rows of one identity and image are copies of each other.

    Attributes:
        originals: The first row of each image of each identity, in their order.
    """

    def __init__(self, owner: str, labels: IntArray, images: Integers) -> None:
        image_of_row = read_column(owner, "images", images, labels.size)

        _, identity = np.unique(labels, return_inverse=True)
        numbers, image = np.unique(image_of_row, return_inverse=True)
        _, group = np.unique(identity * len(numbers) + image, return_inverse=True)
        count = np.bincount(group)

        self._rows = stable_order(group.astype(np.int64))
        self._count: IntArray = count[group]
        self._first: IntArray = (np.cumsum(count) - count)[group]
        self.originals: Positions = np.sort(self._rows[np.cumsum(count) - count])

    def in_turn(self, originals: Positions, turn: IntArray) -> Positions:
        """Rows of the same images: their copies take turns.

        Args:
            originals: Rows.
            turn: Number of the turn, at least 0, of a shape that the rows' can be broadcast with.
        """
        rows: Positions = self._rows[self._first[originals] + turn % self._count[originals]]
        return rows
