"""Rows of a data set grouped by identity, and random orders of them."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, fail

IntArray = npt.NDArray[np.int64]
Integers = Sequence[int] | Tensor | npt.NDArray[np.integer[Any]]
Short = Literal["repeat", "drop", "error"]

KEY_BITS = 31  # of a random number that orders rows


class RowsByIdentity:
    """Rows grouped by identity: those of identity i are ``rows[first[i] : first[i] + count[i]]``.

    Identities are counted from 0, in the order of their labels; those that ``short="drop"`` takes out are not counted.

    Args:
        owner: Who asks, for the error texts.
        labels: Identity of each row.
        num_instances: K: an identity with fewer rows is short.
        short: What happens to short identities.
        cameras: Camera of each row, or ``None``.
        needed: How many identities there have to be.
    """

    def __init__(
        self,
        owner: str,
        labels: Integers,
        num_instances: int,
        short: Short,
        cameras: Integers | None,
        needed: int,
    ) -> None:
        check_choice(owner, "short", short, ("repeat", "drop", "error"))
        label_of_row = integers(owner, "labels", labels)
        if label_of_row.size == 0:
            raise fail(owner, "at least one label", "none", "Is the split empty?")
        self.num_instances = num_instances
        self.rows, first, count = _group(label_of_row)
        self.camera_of_row: IntArray | None = None
        if cameras is not None:
            camera_of_row = integers(owner, "cameras", cameras)
            if camera_of_row.size != label_of_row.size:
                raise fail(
                    owner, f"{label_of_row.size} cameras, one for each label", camera_of_row.size
                )
            self.camera_of_row = np.unique(camera_of_row, return_inverse=True)[1].astype(np.int64)

        self.labels: IntArray = label_of_row[self.rows[first]]
        too_few = count < num_instances
        if short == "error" and too_few.any():
            worst = int(np.argmin(count))
            raise fail(
                owner,
                f"at least num_instances = {num_instances} images of every identity",
                f"{int(too_few.sum())} identities with fewer (identity {self.labels[worst]} has {count[worst]})",
                'Use short="repeat" or short="drop".',
            )
        if short == "drop":
            first, count, self.labels = first[~too_few], count[~too_few], self.labels[~too_few]
        self.first: IntArray = first
        self.count: IntArray = count
        if len(count) < needed:
            raise fail(
                owner,
                f"at least num_identities x world_size = {needed} identities",
                len(count),
                "Lower num_identities"
                + (', or use short="repeat".' if short == "drop" and too_few.any() else "."),
            )

    def __len__(self) -> int:
        """Number of identities."""
        return len(self.count)

    def places(self, identities: IntArray) -> tuple[IntArray, IntArray]:
        """Where the rows of these identities stand in ``rows``, one identity after the other, and where each begins."""
        count = self.count[identities]
        begin = np.cumsum(count) - count
        return np.arange(int(count.sum())) + np.repeat(self.first[identities] - begin, count), begin

    def shuffled(
        self, identities: IntArray, key: IntArray, spread: Literal["draw", "parts"]
    ) -> IntArray:
        """Rows of these identities, one identity after the other, each identity's in the order that the keys give.

        With cameras, any first K rows of an identity come from as many cameras as it has (``"draw"``), or each
        camera's rows are dealt evenly over its parts of K rows (``"parts"``).

        Args:
            identities: Identities; one that is there twice is shuffled twice.
            key: Random numbers of ``KEY_BITS`` bits, one for each row.
            spread: What the cameras are spread over.
        """
        places, begin = self.places(identities)
        count = self.count[identities]
        rows, owner = self.rows[places], np.repeat(np.arange(len(identities)), count)
        if self.camera_of_row is None or len(rows) == 0:
            return rows[order_within(owner, key)]
        camera = self.camera_of_row[rows]
        owner_and_camera = owner * (int(camera.max()) + 1) + camera
        by_camera = order_within(owner_and_camera, key)
        place = np.arange(len(rows))
        if spread == "parts":  # deal the rows, camera after camera, over the parts, like cards
            num_parts = -(-count // self.num_instances)
            part = (place - begin[owner]) % num_parts[owner]
            return rows[by_camera[order_within(owner * int(num_parts.max()) + part, place)]]
        # the n-th row of every camera comes before the (n+1)-th of any
        new_camera = np.diff(owner_and_camera[by_camera], prepend=-1) != 0
        turn = np.empty_like(place)
        turn[by_camera] = place - np.maximum.accumulate(np.where(new_camera, place, 0))
        return rows[order_within(owner * (int(turn.max()) + 1) + turn, key)]


def order_within(group: IntArray, key: IntArray) -> IntArray:
    """Order by group, then by key, then by place: equal on every machine, since no two entries tie."""
    place_bits, group_bits = len(group).bit_length(), int(group.max(initial=0)).bit_length()
    if group_bits + KEY_BITS + place_bits > 63:
        return np.lexsort((key, group))
    # the three in one number: sorting numbers is several times faster than sorting places by two keys
    packed = np.sort(
        (group << (KEY_BITS + place_bits)) | (key << place_bits) | np.arange(len(group))
    )
    return packed & ((1 << place_bits) - 1)


def _group(labels: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Rows in the order of their labels, where each label begins, and how many rows it has."""
    rows = order_within_labels(labels)
    ordered = labels[rows]
    first = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    return rows, first, np.diff(first, append=len(rows))


def order_within_labels(labels: IntArray) -> IntArray:
    """A stable order of the labels."""
    lowest, place_bits = int(labels.min()), len(labels).bit_length()
    if (int(labels.max()) - lowest).bit_length() + place_bits > 63:
        return np.argsort(labels, kind="stable")
    packed = np.sort(((labels - lowest) << place_bits) | np.arange(len(labels)))
    return packed & ((1 << place_bits) - 1)


def integers(owner: str, name: str, values: Integers) -> IntArray:
    """Labels or cameras as a flat array."""
    array: npt.NDArray[Any] = (
        values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    )
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise fail(
            owner,
            f"{name} as a flat list of integers",
            f"shape {array.shape}, {array.dtype}",
            "Number your identities: np.unique(names, return_inverse=True)[1].",
        )
    return array.astype(np.int64)


def check_counts(
    owner: str, num_identities: int, num_instances: int, seed: int, rank: int, world_size: int
) -> None:
    """Check the numbers that every sampler here takes."""
    check_integer(owner, "num_identities", num_identities, 1)
    check_integer(owner, "num_instances", num_instances, 1)
    check_integer(owner, "seed", seed, 0)
    check_integer(owner, "world_size", world_size, 1)
    check_integer(owner, "rank", rank, 0)
    if rank >= world_size:
        raise fail(owner, f"rank in [0, world_size = {world_size})", rank)


def generator(*numbers: int) -> torch.Generator:
    """A generator of its own for seed, epoch and whatever else tells streams apart."""
    mixed = int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(mixed >> 1)


def permutation(size: int, rng: torch.Generator) -> IntArray:
    """A random order of ``size`` things."""
    return torch.randperm(size, generator=rng).numpy()


def random_keys(size: int, rng: torch.Generator) -> npt.NDArray[np.int32]:
    """Random numbers of ``KEY_BITS`` bits."""
    return torch.empty(size, dtype=torch.int32).random_(generator=rng).numpy()
