"""Cross-modality PK batches: P identities with K images of each modality."""

import warnings
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
from torch.utils.data import Sampler

from clipreid_kit._callers import stacklevel_of_user
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.samplers._fingerprint import data_checksum
from clipreid_kit.samplers._integers import (
    IntArray,
    Integers,
    read_column,
    read_labels,
    read_optional_column,
    take_rows,
)
from clipreid_kit.samplers._loader_conventions import EpochSetter, warn_if_sharded_twice
from clipreid_kit.samplers._pk_batches import CHUNK, count_batches, parts_of_identities
from clipreid_kit.samplers._pk_epoch import PKEpoch
from clipreid_kit.samplers._pk_options import IfTooFew, PKOptions
from clipreid_kit.samplers._position import Position
from clipreid_kit.samplers._rows_by_identity import group_rows

_OWNER = "CrossModalityPKSampler"
_BATCHES_VERSION = 1  # raised when a seed gives other batches than before


@fixed_options(not_kept=("labels", "modalities", "cameras", "images"))
class CrossModalityPKSampler(Sampler[list[int]]):
    r"""Batch sampler of P identities with K images of each modality; holds row indices, no data.

    Use it where queries and gallery are of different modalities, such as infrared and visible, or
    of different views, such as aerial and ground: every image has K positives of each other
    modality in its batch, which ordinary PK batches give by chance only. Any number of modalities
    does, from two on. A batch has P blocks of one identity, each with K rows of the first modality,
    K of the second, and so on, in the order of their numbers: P x K x M rows.

    An epoch covers every identity once (``coverage="identities"``), or every image at least once
    (``"images"``): an identity is then in as many batches as its larger modality needs, and the
    images of its smaller ones come round again. Identities that lack a modality are left out.

    Args:
        labels: Identity of each row of the data set: integers, at least one.
        modalities: Modality of each row, an integer; numbers of names are made by
            :class:`CategoryIndex`.
        num_identities: P >= 1, on each rank.
        num_instances: K >= 1 images of each modality.
        seed: As of :class:`PKSampler`.
        coverage: What one epoch covers; see above.
        if_too_few: What to do with an identity of fewer than K images of a modality: ``"repeat"``
            these images, ``"drop"`` the identity, or raise an ``"error"``. Without an image of a
            modality it is left out with a warning, or is an error.
        cameras: Camera of each row. If given, the K images of a modality come from as many cameras
            as it has. ``None`` ignores cameras.
        images: As of :class:`PKSampler`.
        rank: As of :class:`PKSampler`.
        world_size: As of :class:`PKSampler`.

    Attributes:
        epoch: The epoch that the next iteration yields; see :meth:`set_epoch`.

    Warns:
        UserWarning: If identities lack a modality and ``if_too_few="repeat"``; and as
            :class:`PKSampler`.

    Raises:
        ValueError: If there are fewer than two modalities, or fewer identities with all of them
            than P x world_size, columns are not integers of one length, ``if_too_few="error"``
            meets such an identity, or a number is out of range.

    Example:
        >>> labels = [0, 0, 0, 1, 1, 1]
        >>> infrared = [0, 0, 1, 0, 1, 1]
        >>> sampler = CrossModalityPKSampler(labels, infrared, num_identities=2, num_instances=1)
        >>> batch = next(iter(sampler))
        >>> [infrared[row] for row in batch], len({labels[row] for row in batch})
        ([0, 1, 0, 1], 2)

    References:
        Ye et al., Visible Thermal Person Re-Identification via Dual-Constrained Top-Ranking, IJCAI
        2018, section 3.3 (batches of both modalities).
    """

    num_identities: Final[int]
    num_instances: Final[int]
    seed: Final[int]
    coverage: Final[Literal["identities", "images"]]
    if_too_few: Final[IfTooFew]
    rank: Final[int]
    world_size: Final[int]

    def __init__(
        self,
        labels: Integers,
        modalities: Integers,
        num_identities: int = 8,
        num_instances: int = 4,
        *,
        seed: int = 0,
        coverage: Literal["identities", "images"] = "identities",
        if_too_few: IfTooFew = "repeat",
        cameras: Integers | None = None,
        images: Integers | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        options = PKOptions(
            owner=_OWNER,
            num_identities=num_identities,
            num_instances=num_instances,
            seed=seed,
            coverage=coverage,
            if_too_few=if_too_few,
            rank=rank,
            world_size=world_size,
        )

        label_of_row, modality_of_row = _read_columns(labels, modalities)
        num_rows = label_of_row.size
        camera_of_row = read_optional_column(_OWNER, "cameras", cameras, num_rows)
        image_of_row = read_optional_column(_OWNER, "images", images, num_rows)

        # Of one modality an identity is dropped only if it is dropped of all.
        kept = replace(options, if_too_few="error" if if_too_few == "error" else "repeat")
        self._subsets = _rows_of_modalities(
            label_of_row, modality_of_row, num_instances, if_too_few
        )
        self._groups = [
            group_rows(
                label_of_row[rows],
                take_rows(camera_of_row, rows),
                take_rows(image_of_row, rows),
                kept,
            )
            for rows in self._subsets
        ]

        self._options = options
        self._parts = parts_of_identities(self._most_rows(), options)
        self._num_batches = count_batches(self._parts, options.step_size)
        self._position = Position(_OWNER, len(self), options.settings(self._checksum()))

        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = seed
        self.coverage = coverage
        self.if_too_few = if_too_few
        self.rank = rank
        self.world_size = world_size

    @property
    def num_modalities(self) -> int:
        """Number of modalities, M."""
        return len(self._groups)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields."""
        return self._position.epoch

    @property
    def sampler(self) -> EpochSetter:
        """Object through which Lightning and Accelerate set the epoch."""
        return EpochSetter(self.set_epoch)

    def __len__(self) -> int:
        """Number of batches of an epoch: exact, and the same on all ranks and in all epochs."""
        return self._num_batches

    def __repr__(self) -> str:
        """Sizes and options, on one line."""
        return (
            f"{_OWNER}({len(self._groups[0])} identities, {self.num_modalities} modalities, "
            f"{len(self)} batches, num_identities={self.num_identities}, "
            f"num_instances={self.num_instances}, seed={self.seed}, coverage={self.coverage!r}, "
            f"if_too_few={self.if_too_few!r}, rank={self.rank}, world_size={self.world_size}, "
            f"epoch={self.epoch})"
        )

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch that the next iteration yields.

        Args:
            epoch: Number of the epoch, at least 0.
            start_batch: The batch that the iteration begins with, to resume inside the epoch.

        Raises:
            ValueError: If the epoch is negative, or has no such batch.
        """
        self._position.set(epoch, start_batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of batches yielded, and what they depend on."""
        return self._position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, on any rank, with the remaining batches.

        Args:
            state: The state.

        Raises:
            ValueError: If the state is of a sampler with other columns or options, whose batches
                are others.
        """
        self._position.load_state_dict(state)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, each a list of P x K x M row indices."""
        warn_if_sharded_twice(_OWNER, self.world_size)
        yield from self._position.iterate(self._batches)

    def _batches(self, epoch: int, start_batch: int) -> Iterator[list[int]]:
        """Yield the batches of an epoch, from one of them on."""
        epochs = [self._epoch_of(number, epoch) for number in range(self.num_modalities)]

        for begin in range(start_batch, len(self), CHUNK):
            end = min(begin + CHUNK, len(self))
            by_modality = [
                rows[np.array(batches.batches(begin, end))]
                for rows, batches in zip(self._subsets, epochs, strict=True)
            ]
            shape = end - begin, self.num_identities, self.num_instances
            # batches, identities, modalities, instances
            joined = np.stack([rows.reshape(shape) for rows in by_modality], axis=2)
            yield from joined.reshape(end - begin, -1).tolist()

    def _epoch_of(self, modality: int, epoch: int) -> PKEpoch:
        """The epoch's rows of one modality; all modalities deal the same identities."""
        rows = self._groups[modality]
        return PKEpoch(rows, self._parts, len(self), self._options, epoch=epoch, stream=modality)

    def _most_rows(self) -> IntArray:
        """Rows of each identity in its largest modality."""
        most: IntArray = np.max([rows.num_rows for rows in self._groups], axis=0)
        return most

    def _checksum(self) -> int:
        """Checksum of the columns of all modalities."""
        checksum = _BATCHES_VERSION
        for rows, group in zip(self._subsets, self._groups, strict=True):
            checksum = zlib.crc32(rows.astype(np.int64).tobytes(), checksum)
            checksum = data_checksum(group, start=checksum)
        return checksum


def _read_columns(labels: Integers, modalities: Integers) -> tuple[IntArray, IntArray]:
    """Check the identities and modalities of all rows."""
    label_of_row = read_labels(_OWNER, labels)
    modality_of_row = read_column(_OWNER, "modalities", modalities, label_of_row.size)
    if len(np.unique(modality_of_row)) < 2:
        raise ValueError(
            f"{_OWNER}: all rows have the modality {modality_of_row[0]}; use PKSampler for a "
            "single modality."
        )
    return label_of_row, modality_of_row


def _rows_of_modalities(
    labels: IntArray, modalities: IntArray, num_instances: int, if_too_few: IfTooFew
) -> list[IntArray]:
    """Rows of each modality, of the identities that have enough images of every one."""
    identities, identity = np.unique(labels, return_inverse=True)
    numbers, modality = np.unique(modalities, return_inverse=True)
    count = np.zeros((len(identities), len(numbers)), dtype=np.int64)
    np.add.at(count, (identity, modality), 1)

    lacks_one = count.min(axis=1) == 0
    if lacks_one.any() and if_too_few != "drop":
        first = int(np.argmax(lacks_one))
        missing = numbers[int(np.argmin(count[first]))]
        found = (
            f"{_OWNER}: {int(lacks_one.sum())} of {len(identities)} identities lack a modality "
            f"(identity {identities[first]} has no image of modality {missing})"
        )
        if if_too_few == "error":
            raise ValueError(f'{found}; use if_too_few="repeat" or "drop", which leave them out.')
        warnings.warn(f"{found} and are left out.", stacklevel=stacklevel_of_user())

    least = num_instances if if_too_few == "drop" else 1
    is_kept = count.min(axis=1) >= least
    if not is_kept.any():
        raise ValueError(
            f"{_OWNER}: no identity has {least} images of each of the {len(numbers)} modalities; "
            "check how identities and modalities were made."
        )
    return [np.flatnonzero((modality == m) & is_kept[identity]) for m in range(len(numbers))]
