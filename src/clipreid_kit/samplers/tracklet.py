"""Batches of tracklets: P identities with K tracklets of T frames each."""

from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from torch.utils.data import Sampler

from clipreid_kit._checks import check_choice, check_integer
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.samplers._fingerprint import check_state, checksum_of
from clipreid_kit.samplers._frame_choice import consecutive_frames, segment_frames
from clipreid_kit.samplers._integers import (
    IntArray,
    Integers,
    read_column,
    read_labels,
    read_optional_column,
)
from clipreid_kit.samplers._loader_conventions import EpochSetter, warn_if_sharded_twice
from clipreid_kit.samplers._pk_batches import PKBatches
from clipreid_kit.samplers._pk_options import IfTooFew, PKOptions
from clipreid_kit.samplers._position import Position
from clipreid_kit.samplers._random import seeded_generator

_OWNER = "TrackletSampler"
_STREAM = 3  # of frames: PKSampler draws identities and tracklets from others


@fixed_options(not_kept=("labels", "tracklets", "frames", "cameras"))
class TrackletSampler(Sampler[list[int]]):
    r"""Batch sampler of P identities with K tracklets of T frames each; holds row indices, no data.

    Use it to train on video. A batch is P x K x T rows: first the T frames of one tracklet, in
    their order, then those of the next of the same identity, and so on. So a batch of images
    (P K T, 3, H, W) becomes one of tracklets by ``images.unflatten(0, (-1, T))``, and their labels
    are ``labels[::T]``. Identities and tracklets are dealt as :class:`PKSampler` deals identities
    and images. Which frames of a tracklet are shown is drawn anew for every batch:

    - ``selection="segments"``: one random frame of each of T equal segments (restricted random
      sampling). The frames cover the whole tracklet; of a tracklet with fewer than T frames each is
      shown as often as any other, give or take one.
    - ``selection="consecutive"``: T frames, each ``stride`` behind the one before, from a random
      start. In a tracklet that is too short, the stride is the largest that fits; with fewer than T
      frames they are repeated as above.

    Args:
        labels: Identity of each row of the data set: integers, at least one.
        tracklets: Tracklet of each row, such as ``ReidDataset.tracklets``.
        num_identities: P >= 1, on each rank.
        num_tracklets: K >= 1; metric losses need K >= 2.
        num_frames: T >= 1.
        frames: Number of each row's frame, by which the rows of a tracklet are ordered, such as
            ``ReidDataset.frames``. ``None`` if they are in order.
        selection: Which frames are shown; see above.
        stride: Distance of the frames with ``selection="consecutive"``, at least 1.
        seed: As of :class:`PKSampler`.
        coverage: Whether an epoch shows every identity once, or every tracklet at least once.
        if_too_few: What to do with an identity of fewer than K tracklets; see :class:`PKSampler`.
        cameras: Camera of each row, to take the tracklets of an identity from as many of its
            cameras as possible. ``None`` ignores cameras.
        rank: As of :class:`PKSampler`.
        world_size: As of :class:`PKSampler`.

    Attributes:
        epoch: The epoch that the next iteration yields; see :meth:`set_epoch`.

    Raises:
        ValueError: If a tracklet has rows of two identities or of two cameras, the columns differ
            in length, ``stride`` would have no effect, or as :class:`PKSampler`.

    Example:
        >>> labels = [0] * 6 + [1] * 6
        >>> tracklets = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
        >>> sampler = TrackletSampler(labels, tracklets, 2, num_tracklets=2, num_frames=2)
        >>> batch = next(iter(sampler))
        >>> len(batch), [tracklets[row] for row in batch[::2]]  # the tracklet of every two frames
        (8, [...])

    References:
        Li et al., Diversity Regularized Spatiotemporal Attention for Video-based Person
        Re-identification, CVPR 2018, section 3.1 (restricted random sampling).
    """

    num_identities: Final[int]
    num_tracklets: Final[int]
    num_frames: Final[int]
    selection: Final[Literal["segments", "consecutive"]]
    stride: Final[int]
    seed: Final[int]
    coverage: Final[Literal["identities", "tracklets"]]
    if_too_few: Final[IfTooFew]
    rank: Final[int]
    world_size: Final[int]

    def __init__(
        self,
        labels: Integers,
        tracklets: Integers,
        num_identities: int = 8,
        num_tracklets: int = 4,
        num_frames: int = 4,
        *,
        frames: Integers | None = None,
        selection: Literal["segments", "consecutive"] = "segments",
        stride: int = 1,
        seed: int = 0,
        coverage: Literal["identities", "tracklets"] = "tracklets",
        if_too_few: IfTooFew = "repeat",
        cameras: Integers | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_choice(_OWNER, "selection", selection, ("segments", "consecutive"))
        check_choice(_OWNER, "coverage", coverage, ("identities", "tracklets"))
        check_integer(_OWNER, "num_tracklets", num_tracklets, 1)
        check_integer(_OWNER, "num_frames", num_frames, 1)
        check_integer(_OWNER, "stride", stride, 1)
        if selection == "segments" and stride != 1:
            raise ValueError(
                f'{_OWNER}: stride has no effect with selection="segments", whose frames cover the '
                'whole tracklet; leave it out, or pass selection="consecutive".'
            )

        label_of_row = read_labels(_OWNER, labels)
        num_rows = label_of_row.size
        tracklet_of_row = read_column(_OWNER, "tracklets", tracklets, num_rows)
        frame_of_row = read_optional_column(_OWNER, "frames", frames, num_rows)
        camera_of_row = read_optional_column(_OWNER, "cameras", cameras, num_rows)

        self._rows, self._first, self._count = _group(tracklet_of_row, frame_of_row)
        camera_of_tracklet = None
        if camera_of_row is not None:
            camera_of_tracklet = self._one_of_each("cameras", camera_of_row, tracklet_of_row)

        options = PKOptions(
            owner=_OWNER,
            num_identities=num_identities,
            num_instances=num_tracklets,
            seed=seed,
            coverage="images" if coverage == "tracklets" else coverage,
            if_too_few=if_too_few,
            rank=rank,
            world_size=world_size,
            items="tracklets",
        )
        label_of_tracklet = self._one_of_each("identities", label_of_row, tracklet_of_row)
        self._tracklets = PKBatches(label_of_tracklet, camera_of_tracklet, None, options)
        self._data = checksum_of((self._rows, self._first, tracklet_of_row))
        self._position = Position(_OWNER, len(self), self._tracklets.settings)

        self.num_identities = num_identities
        self.num_tracklets = num_tracklets
        self.num_frames = num_frames
        self.selection = selection
        self.stride = stride
        self.seed = seed
        self.coverage = coverage
        self.if_too_few = if_too_few
        self.rank = rank
        self.world_size = world_size

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
        return len(self._tracklets)

    def __repr__(self) -> str:
        """Sizes and options, on one line."""
        return (
            f"TrackletSampler({len(self._count)} tracklets, {len(self)} batches, "
            f"num_identities={self.num_identities}, num_tracklets={self.num_tracklets}, "
            f"num_frames={self.num_frames}, selection={self.selection!r}, stride={self.stride}, "
            f"seed={self.seed}, coverage={self.coverage!r}, if_too_few={self.if_too_few!r}, "
            f"rank={self.rank}, world_size={self.world_size}, epoch={self.epoch})"
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
        """Return the epoch, the number of batches yielded, and what they depend on.

        A loader with workers requests batches before they are used: there, count the batches you
        trained on, and pass them to :meth:`set_epoch`.
        """
        return {"tracklets": self._position.state_dict(), **self._settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, on any rank, with the remaining batches.

        Args:
            state: The state.

        Raises:
            ValueError: If the state is of a sampler with other labels, tracklets, cameras or
                options, whose batches are others.
        """
        owner = f"{_OWNER}.load_state_dict"
        check_state(owner, state, self._settings(), ["tracklets"])
        self._position.load_state_dict(state["tracklets"])

    def _settings(self) -> dict[str, int | str]:
        """Options that the frames of a batch depend on, besides its tracklets and the rank."""
        return {
            "num_frames": self.num_frames,
            "selection": self.selection,
            "stride": self.stride,
            "data": self._data,
        }

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, each a list of P x K x T row indices."""
        warn_if_sharded_twice(_OWNER, self.world_size)
        yield from self._position.iterate(self._batches)

    def _batches(self, epoch: int, start_batch: int) -> Iterator[list[int]]:
        """Yield the batches of an epoch, from one of them on."""
        batches = self._tracklets.of_epoch(epoch, start_batch)
        for number, tracklets in enumerate(batches, start=start_batch + 1):
            yield self._frames(np.asarray(tracklets), epoch, number)

    def _frames(self, tracklets: IntArray, epoch: int, batch: int) -> list[int]:
        """Rows of the frames that a batch (the first is 1) shows of its tracklets."""
        rng = seeded_generator(self.seed, epoch, _STREAM, self.rank, batch)
        count = self._count[tracklets]
        if self.selection == "segments":
            places = segment_frames(count, self.num_frames, rng)
        else:
            places = consecutive_frames(count, self.num_frames, self.stride, rng)

        rows: list[int] = self._rows[self._first[tracklets][:, None] + places].ravel().tolist()
        return rows

    def _one_of_each(self, name: str, values: IntArray, tracklet_of_row: IntArray) -> IntArray:
        """The one value that all rows of each tracklet have."""
        value_of_tracklet = values[self._rows[self._first]]
        differs = values[self._rows] != np.repeat(value_of_tracklet, self._count)
        if differs.any():
            row = int(self._rows[np.flatnonzero(differs)[0]])
            raise ValueError(
                f"{_OWNER}: tracklet {tracklet_of_row[row]} has rows of two {name} (row {row} is "
                "the first that differs). Number tracklets through the whole data set."
            )
        return value_of_tracklet


def _group(tracklets: IntArray, frames: IntArray | None) -> tuple[IntArray, IntArray, IntArray]:
    """Rows by tracklet and frame, where each tracklet begins, and how many rows it has."""
    position = np.arange(tracklets.size)
    order = np.lexsort((position if frames is None else frames, tracklets))
    _, first, count = np.unique(tracklets[order], return_index=True, return_counts=True)
    return order, first, count
