"""PK batches: P identities with K images each."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from torch.utils.data import Sampler

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit.samplers._deal import Epoch
from clipreid_kit.samplers._rows import Integers, RowsByIdentity, Short, check_counts

CHUNK = 64  # batches that are looked up at once; says nothing about what they hold


class PKSampler(Sampler[list[int]]):
    r"""Batch sampler that yields P identities x K images each; holds no data, only row indices.

    Give it to ``DataLoader(dataset, batch_sampler=...)``. Every batch has exactly P different identities with K rows
    each, in blocks of K. An epoch is one of

    - ``coverage="identities"``: every identity once, with K of its images; :math:`\lceil I / P \rceil` batches for
      I identities. Short epochs; images rotate from epoch to epoch.
    - ``coverage="images"``: every image at least once. An identity with n images takes part
      :math:`\lceil n / K \rceil` times; the number of batches is the larger of (all parts / P, rounded up) and the
      parts of the largest identity.

    Places that the epoch does not fill go to further identities, in a random order that comes round to all of them, so
    no batch is smaller than the others and none has an identity twice.

    Batches are looked up when they are asked for: the first one of an epoch comes at once (10 ms for a million rows),
    and resuming inside an epoch costs nothing for what was seen.

    Args:
        labels: Identity of each row of the data set, integers, at least one.
        num_identities: P >= 1, on each rank.
        num_instances: K >= 1; metric losses need K >= 2.
        seed: Together with the epoch it decides every batch; global random states are neither read nor set.
        coverage: What one epoch covers, see above.
        short: What to do with an identity of fewer than K images: ``"repeat"`` its images (each as often as any
            other, give or take one), ``"drop"`` the identity, or ``"error"``.
        cameras: Camera of each row. If given, the K images of an identity come from as many cameras as it has; with
            ``coverage="images"``, where all its images have to appear, each camera's are dealt evenly over its parts.
        rank: This process, in [0, world_size).
        world_size: Number of processes. Each yields as many batches as the others, and in one step all identities
            of all ranks differ.

    Raises:
        ValueError: If there are fewer identities than P x world_size (after dropping), labels or cameras are not
            integers of one length, ``short="error"`` meets a short identity, or a number is out of range.

    Example:
        >>> sampler = PKSampler([0, 0, 1, 1, 2, 2, 2], num_identities=2, num_instances=2, seed=1)
        >>> len(sampler)
        2
        >>> [len(batch) for batch in sampler]
        [4, 4]

    Note:
        The known samplers drop identities at the end of an epoch, give an estimate as ``len()``, and read global
        random states; here ``len()`` is exact, on every rank and in every epoch.

    References:
        Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017, section 2 (PK batches).
    """

    def __init__(
        self,
        labels: Integers,
        num_identities: int = 16,
        num_instances: int = 4,
        *,
        seed: int = 0,
        coverage: Literal["identities", "images"] = "identities",
        short: Short = "repeat",
        cameras: Integers | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_counts("PKSampler", num_identities, num_instances, seed, rank, world_size)
        check_choice("PKSampler", "coverage", coverage, ("identities", "images"))
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = seed
        self.coverage = coverage
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._start = 0
        self._yielded = 0

        size = num_identities * world_size
        self._held = RowsByIdentity("PKSampler", labels, num_instances, short, cameras, size)
        self._parts = -(-self._held.count // num_instances)
        if coverage == "identities":
            self._parts = np.ones_like(self._parts)
        # at least the parts of the largest identity: no two of them may meet in a batch
        self._num_batches = max(-(-int(self._parts.sum()) // size), int(self._parts.max()))

    def __len__(self) -> int:
        """Batches of an epoch: exact, equal on all ranks and in all epochs."""
        return self._num_batches

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch that the next iteration yields, and the batch it begins with (to resume inside one)."""
        check_integer("PKSampler.set_epoch", "epoch", epoch, 0)
        check_integer("PKSampler.set_epoch", "start_batch", start_batch, 0)
        if start_batch > len(self):
            raise fail("PKSampler.set_epoch", f"start_batch in [0, {len(self)}]", start_batch)
        self.epoch = epoch
        self._start = start_batch
        self._yielded = start_batch

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches handed out. A loader with workers asks ahead: count its batches yourself."""
        return {"epoch": self.epoch, "batches": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where :meth:`state_dict` was taken: the next iteration yields the batches that were left."""
        self.set_epoch(state["epoch"], start_batch=state["batches"])

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, each a list of P x K row indices."""
        start, self._start = self._start, 0
        self._yielded = start
        epoch = Epoch(
            self._held,
            self._parts,
            len(self),
            self.num_identities,
            seed=self.seed,
            epoch=self.epoch,
            rank=self.rank,
            world_size=self.world_size,
            all_parts=self.coverage == "images",
        )
        for begin in range(start, len(self), CHUNK):
            for number, batch in enumerate(
                epoch.batches(begin, min(begin + CHUNK, len(self))), begin + 1
            ):
                self._yielded = number
                yield batch
