"""PK batches: P identities with K images each."""

from collections.abc import Iterator
from typing import Any, Final, Literal

from torch.utils.data import Sampler

from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.samplers._integers import Integers
from clipreid_kit.samplers._loader_conventions import EpochSetter, warn_if_sharded_twice
from clipreid_kit.samplers._pk_batches import PKBatches
from clipreid_kit.samplers._pk_options import IfTooFew, PKOptions
from clipreid_kit.samplers._position import Position


@fixed_options(not_kept=("labels", "cameras", "images"))
class PKSampler(Sampler[list[int]]):
    r"""Batch sampler of P identities with K images each; holds row indices, no data.

    Use it for metric losses, which learn from rows that share an identity. Pass it to
    ``DataLoader(dataset, batch_sampler=...)``. Every batch has exactly P different identities with
    K rows each, in blocks of K. An epoch covers one of

    - ``coverage="identities"``: every identity once, with K of its images;
      :math:`\lceil I / P \rceil` batches for I identities. Epochs are short, and images rotate from
      epoch to epoch.
    - ``coverage="images"``: every image at least once. An identity with n images is in
      :math:`\lceil n / K \rceil` batches, each with another part of its images; the number of
      batches is the larger of (all parts / P, rounded up) and the parts of the largest identity.

    Slots that the epoch does not fill go to further identities, in a random order that comes round
    to all of them. Thus all batches have the same size, and none has an identity twice.

    Batches are looked up on demand: the first one of an epoch takes about 30 ms for ten million
    rows of 500,000 identities, and resuming inside an epoch costs nothing for the batches before.
    The sampler keeps 4 bytes a row; an epoch adds as much.

    Args:
        labels: Identity of each row of the data set: integers, at least one.
        num_identities: P >= 1, on each rank.
        num_instances: K >= 1; metric losses need K >= 2.
        seed: Seed, at least 0. With the epoch it decides every batch; global random states are
            neither read nor set.
        coverage: What one epoch covers; see above.
        if_too_few: What to do with an identity of fewer than K images: ``"repeat"`` its images
            (each as often as any other, give or take one), ``"drop"`` the identity, or raise an
            ``"error"``.
        cameras: Camera of each row. If given, the K images of an identity come from as many cameras
            as it has; with ``coverage="images"``, where all its images have to appear, those of
            each camera are dealt evenly over its parts. ``None`` ignores cameras.
        images: Number of the image that each row shows, such as ``ReidDataset.image_numbers``; pass
            it where images are repeated, as :func:`balance_records` does. The K images of an
            identity are then as many different ones as it has, so that no image has copies of
            itself for its only positives. Copies take turns, and an identity is in as many batches
            as with them. ``None`` means that all images differ.
        rank: Rank of this process, in [0, world_size).
        world_size: Number of processes. All yield the same number of batches, and in one step all
            identities of all ranks differ.

    Attributes:
        epoch: The epoch that the next iteration yields; see :meth:`set_epoch`.

    Warns:
        UserWarning: If ``images`` shows identities of a single image, and K is 2 or more; once if
            Accelerate prepared the loader of a sampler with ``world_size`` above 1.

    Raises:
        ValueError: If there are fewer identities than P x world_size (after dropping), labels or
            cameras are not integers of one length, ``if_too_few="error"`` meets such an identity,
            or a number is out of range.

    Example:
        >>> sampler = PKSampler([0, 0, 1, 1, 2, 2, 2], num_identities=2, num_instances=2, seed=1)
        >>> len(sampler)
        2
        >>> [len(batch) for batch in sampler]
        [4, 4]

    Note:
        Widely used samplers drop identities at the end of an epoch, estimate their ``len()``, and
        read global random states. Here ``len()`` is exact, on every rank and in every epoch.

    References:
        Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017, section 2
        (PK batches).
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
        num_identities: int = 16,
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
            owner="PKSampler",
            num_identities=num_identities,
            num_instances=num_instances,
            seed=seed,
            coverage=coverage,
            if_too_few=if_too_few,
            rank=rank,
            world_size=world_size,
        )
        self._batches = PKBatches(labels, cameras, images, options)

        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = seed
        self.coverage = coverage
        self.if_too_few = if_too_few
        self.rank = rank
        self.world_size = world_size

        self._position = Position("PKSampler", len(self), self._batches.settings)

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
        return len(self._batches)

    def __repr__(self) -> str:
        """Sizes and options, on one line."""
        rows = self._batches.rows
        return (
            f"PKSampler({len(rows)} identities, {len(self)} batches, "
            f"num_identities={self.num_identities}, num_instances={self.num_instances}, "
            f"seed={self.seed}, coverage={self.coverage!r}, if_too_few={self.if_too_few!r}, "
            f"cameras={rows.num_cameras}, rank={self.rank}, world_size={self.world_size}, "
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
        """Return the epoch, the number of batches yielded, and what they depend on.

        A loader with workers requests batches before they are used: there, count the batches you
        trained on, and pass them to :meth:`set_epoch`.
        """
        return self._position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, on any rank, with the remaining batches.

        Args:
            state: The state.

        Raises:
            ValueError: If the state is of a sampler with other labels, cameras or options, whose
                batches are others.
        """
        self._position.load_state_dict(state)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, each a list of P x K row indices."""
        warn_if_sharded_twice("PKSampler", self.world_size)
        yield from self._position.iterate(self._batches.of_epoch)
