"""Rows of a data set grouped by identity, and random orders of each identity's rows."""

import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt

from clipreid_kit._callers import stacklevel_of_user
from clipreid_kit.samplers._image_copies import ImageCopies
from clipreid_kit.samplers._integers import (
    SLICE,
    IntArray,
    Integers,
    Positions,
    order_by_group_and_key,
    position_dtype,
    read_column,
    read_labels,
    stable_order,
)
from clipreid_kit.samplers._pk_options import PKOptions
from clipreid_kit.samplers._random import KEY_BITS

Spread = Literal["draw", "parts"]


class RowsByIdentity:
    """Rows grouped by identity: those of identity i are ``rows[first[i] : first[i] + count[i]]``.

    Identities are numbered from 0, in the order of their labels, without those that
    ``if_too_few="drop"`` removes.

    Args:
        labels: Identity of each row.
        cameras: Camera of each row, or ``None``.
        images: Image of each row, or ``None`` if all differ. Of the copies of an image only the
            first is in ``rows``; ``num_rows`` counts them all, and ``copies`` holds them.
        options: Options of the sampler.
    """

    def __init__(
        self,
        labels: Integers,
        cameras: Integers | None,
        images: Integers | None,
        options: PKOptions,
    ) -> None:
        owner = options.owner
        label_of_row = read_labels(owner, labels)

        self.num_instances = options.num_instances
        self.rows, first, count = _group(label_of_row)
        self.num_rows: IntArray = count
        self.copies: ImageCopies | None = None
        if images is not None:
            self.copies = ImageCopies(owner, label_of_row, images)
            rows, first, count = _group(label_of_row[self.copies.originals])
            self.rows = self.copies.originals[rows]

        self.camera_of_row: Positions | None = None
        if cameras is not None:
            self.camera_of_row = _number_cameras(owner, cameras, num_rows=label_of_row.size)

        self.labels: IntArray = label_of_row[self.rows[first]]
        self.first: IntArray = first
        self.count: IntArray = count
        if options.if_too_few == "error":
            self._check_enough_rows(owner, options.items)
        if options.if_too_few == "drop":
            self._drop(count < options.num_instances)

    def __len__(self) -> int:
        """Number of identities."""
        return len(self.count)

    @property
    def num_cameras(self) -> int | None:
        """Number of cameras; ``None`` if cameras are ignored."""
        return None if self.camera_of_row is None else int(self.camera_of_row.max()) + 1

    def positions(self, identities: IntArray) -> IntArray:
        """Positions in ``rows`` of these identities' rows, one identity after the other."""
        count = self.count[identities]
        begin = np.cumsum(count) - count
        offset = np.repeat(self.first[identities] - begin, count)
        positions: IntArray = np.arange(len(offset)) + offset
        return positions

    def shuffled(self, identities: IntArray, key: IntArray, spread: Spread) -> Positions:
        """Rows of these identities, one identity after the other, each in the order of its keys.

        With cameras, the first K rows of an identity come from as many cameras as it has
        (``"draw"``), or the rows of each camera are dealt evenly over the identity's parts of K
        rows (``"parts"``).

        Args:
            identities: Identities. One that occurs twice is shuffled twice.
            key: Random keys of ``KEY_BITS`` bits, one for each row.
            spread: What the cameras are spread over.
        """
        count = self.count[identities]
        rows = self.rows[self.positions(identities)]
        block = np.repeat(
            np.arange(len(identities)), count
        )  # the entry of `identities` of each row
        if self.camera_of_row is None or len(rows) == 0:
            return rows[order_by_group_and_key(block, key, KEY_BITS)]

        camera = self.camera_of_row[rows]
        block_and_camera = block * (int(camera.max()) + 1) + camera
        by_camera = order_by_group_and_key(block_and_camera, key, KEY_BITS)
        if spread == "parts":
            return rows[self._deal_over_parts(by_camera, block, count)]
        return rows[_cameras_in_turn(by_camera, block, block_and_camera, key)]

    def _deal_over_parts(self, by_camera: IntArray, block: IntArray, count: IntArray) -> IntArray:
        """Order that deals the rows of each identity, camera after camera, over its parts."""
        position = np.arange(len(by_camera))
        begin = np.cumsum(count) - count
        num_parts = -(-count // self.num_instances)

        part = (position - begin[block]) % num_parts[block]
        block_and_part = block * int(num_parts.max()) + part
        return by_camera[order_by_group_and_key(block_and_part, position, KEY_BITS)]

    def _check_enough_rows(self, owner: str, items: str) -> None:
        """Raise ValueError if an identity has fewer than K rows."""
        num_short = int((self.count < self.num_instances).sum())
        if num_short == 0:
            return

        worst = int(np.argmin(self.count))
        raise ValueError(
            f"{owner}: {num_short} identities have fewer than {self.num_instances} {items} "
            f"(identity {self.labels[worst]} has {self.count[worst]}); "
            'use if_too_few="repeat" or if_too_few="drop".'
        )

    def _drop(self, dropped: npt.NDArray[np.bool_]) -> None:
        """Remove identities; their rows are not used any more."""
        self.labels = self.labels[~dropped]
        self.first = self.first[~dropped]
        self.count = self.count[~dropped]
        self.num_rows = self.num_rows[~dropped]


def group_rows(
    labels: Integers,
    cameras: Integers | None,
    images: Integers | None,
    options: PKOptions,
) -> RowsByIdentity:
    """Group the rows by identity, and require enough identities for a step.

    Raises:
        ValueError: If there are fewer identities than one step needs, or a column is wrong.
    """
    rows = RowsByIdentity(labels, cameras, images, options)

    if len(rows) < options.step_size:
        were_dropped = ""
        if options.if_too_few == "drop":
            were_dropped = f" after dropping those with too few {options.items}"
        raise ValueError(
            f"{options.owner}: a step needs num_identities x world_size = {options.step_size} "
            f"identities, and there are {len(rows)}{were_dropped}; lower num_identities."
        )

    num_single = int((rows.count == 1).sum())
    if images is not None and options.num_instances > 1 and num_single:
        warnings.warn(
            f"{options.owner}: {num_single} of {len(rows)} identities have a single image, whose "
            'only positives in a batch are copies of it; add images, or use if_too_few="drop".',
            stacklevel=stacklevel_of_user(),
        )
    return rows


def _number_cameras(owner: str, cameras: Integers, num_rows: int) -> Positions:
    """Number the cameras from 0."""
    camera_of_row = read_column(owner, "cameras", cameras, num_rows)
    dtype = position_dtype(num_rows)
    lowest = int(camera_of_row.min())
    range_of_cameras = int(camera_of_row.max()) - lowest + 1
    if range_of_cameras > num_rows:
        return np.unique(camera_of_row, return_inverse=True)[1].astype(dtype)

    # A table of the cameras is several times faster than to sort them.
    number = np.empty(num_rows, dtype=dtype)
    np.subtract(camera_of_row, lowest, out=number, casting="unsafe")
    is_used = np.bincount(number, minlength=range_of_cameras) > 0
    return (np.cumsum(is_used) - 1).astype(dtype)[number]


def _group(labels: IntArray) -> tuple[Positions, IntArray, IntArray]:
    """Rows in the order of their labels, where each label begins, and how many rows it has."""
    rows = stable_order(labels)

    begins = [np.zeros(1, dtype=np.int64)]
    for begin in range(1, len(rows), SLICE):
        ordered = labels[rows[begin - 1 : begin + SLICE]]
        begins.append(begin + np.flatnonzero(ordered[1:] != ordered[:-1]))

    first = np.concatenate(begins)
    count = np.diff(first, append=len(rows))
    return rows, first, count


def _cameras_in_turn(
    by_camera: IntArray, block: IntArray, block_and_camera: IntArray, key: IntArray
) -> IntArray:
    """Order in which the n-th row of each camera precedes the (n+1)-th of any, in each block."""
    position = np.arange(len(by_camera))
    is_new_camera = np.diff(block_and_camera[by_camera], prepend=-1) != 0
    begin_of_camera = np.maximum.accumulate(np.where(is_new_camera, position, 0))

    turn = np.empty_like(position)
    turn[by_camera] = position - begin_of_camera
    block_and_turn = block * (int(turn.max()) + 1) + turn
    return order_by_group_and_key(block_and_turn, key, KEY_BITS)
