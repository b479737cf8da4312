"""PK batches: P identities with K images each."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler

from clipreid_kit._checks import check_choice, check_integer, fail

IntArray = npt.NDArray[np.int64]


class PKSampler(Sampler[list[int]]):
    r"""Batch sampler that yields P identities x K images each; holds no data, only row indices.

    Give it to ``DataLoader(dataset, batch_sampler=...)``. Every batch has exactly P different identities with K rows
    each, in blocks of K. An epoch is one of

    - ``coverage="identities"``: every identity once, with K of its images; :math:`\lceil I / P \rceil` batches for
      I identities. Short epochs; images rotate from epoch to epoch.
    - ``coverage="images"``: every image at least once. An identity with n images takes part
      :math:`\lceil n / K \rceil` times; the number of batches is the larger of (all parts / P, rounded up) and the
      parts of the largest identity.

    The last places of a batch that the epoch does not fill go to further identities, drawn at random, so no batch is
    smaller than the others and no two rows of a batch repeat an identity.

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
        labels: Sequence[int] | Tensor | npt.NDArray[np.integer[Any]],
        num_identities: int = 16,
        num_instances: int = 4,
        *,
        seed: int = 0,
        coverage: Literal["identities", "images"] = "identities",
        short: Literal["repeat", "drop", "error"] = "repeat",
        cameras: Sequence[int] | Tensor | npt.NDArray[np.integer[Any]] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_integer("PKSampler", "num_identities", num_identities, 1)
        check_integer("PKSampler", "num_instances", num_instances, 1)
        check_integer("PKSampler", "seed", seed, 0)
        check_choice("PKSampler", "coverage", coverage, ("identities", "images"))
        check_choice("PKSampler", "short", short, ("repeat", "drop", "error"))
        if not 0 <= rank < world_size:
            raise fail("PKSampler", f"rank in [0, world_size = {world_size})", rank)
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = seed
        self.coverage = coverage
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._start = 0
        self._yielded = 0

        identity_of_row = _integers("labels", labels)
        if identity_of_row.size == 0:
            raise fail("PKSampler", "at least one label", "none", "Is the split empty?")
        self._cameras = None if cameras is None else _integers("cameras", cameras)
        if self._cameras is not None and self._cameras.size != identity_of_row.size:
            raise fail("PKSampler", f"{identity_of_row.size} cameras, one for each label", self._cameras.size)

        # rows grouped by identity: those of identity i are _rows[_first[i] : _first[i] + _count[i]]
        self._rows = np.argsort(identity_of_row, kind="stable")
        identities, first, count = np.unique(identity_of_row[self._rows], return_index=True, return_counts=True)
        too_few = count < num_instances
        if short == "error" and too_few.any():
            worst = int(np.argmin(count))
            raise fail(
                "PKSampler",
                f"at least num_instances = {num_instances} images of every identity",
                f"{int(too_few.sum())} identities with fewer (identity {identities[worst]} has {count[worst]})",
                'Use short="repeat" or short="drop".',
            )
        keep = ~too_few if short == "drop" else np.ones(len(count), dtype=bool)
        self._first: IntArray = first[keep].astype(np.int64)
        self._count: IntArray = count[keep].astype(np.int64)
        if len(self._count) < num_identities * world_size:
            raise fail(
                "PKSampler",
                f"at least num_identities x world_size = {num_identities * world_size} identities",
                len(self._count),
                "Lower num_identities" + (', or use short="repeat".' if short == "drop" and too_few.any() else "."),
            )

    def __len__(self) -> int:
        """Batches of an epoch: exact, equal on all ranks and in all epochs."""
        places = self.num_identities * self.world_size
        if self.coverage == "identities":
            return math.ceil(len(self._count) / places)
        parts = -(-self._count // self.num_instances)
        return int(max(math.ceil(parts.sum() / places), parts.max()))

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch that the next iteration yields, and the batch it begins with (to resume inside one)."""
        check_integer("PKSampler.set_epoch", "epoch", epoch, 0)
        if not 0 <= start_batch <= len(self):
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
        # one stream decides who comes in which step, equally on all ranks; a second one draws the images
        schedule = self._schedule(_generator(self.seed, self.epoch, 0))
        images = _generator(self.seed, self.epoch, 1 + (self.rank if self.coverage == "identities" else 0))
        mine = slice(self.rank * self.num_identities, (self.rank + 1) * self.num_identities)
        ordered: dict[int, IntArray] = {}
        for batch, (identities, parts) in enumerate(schedule):
            if self.coverage == "images":
                self._order_new(identities, images, ordered)
            rows = self._draw(identities[mine], parts[mine], images, ordered)
            if batch >= start:
                self._yielded = batch + 1
                yield rows

    def _schedule(self, rng: torch.Generator) -> Iterator[tuple[IntArray, IntArray]]:
        """For each step, the identities of all ranks and which part of their images each is to show."""
        num_batches, places = len(self), self.num_identities * self.world_size
        order = torch.randperm(len(self._count), generator=rng).numpy()
        if self.coverage == "identities":
            for begin in range(0, num_batches * places, places):
                chosen = order[begin : begin + places]
                yield self._fill(chosen, np.zeros(len(chosen), dtype=np.int64), places, rng)
            return
        # Lay the parts of all identities in a row and deal them out like cards: the parts of one identity lie side by
        # side and are at most num_batches, so they land in different batches, and no batch gets more than `places`.
        parts = -(-self._count[order] // self.num_instances)
        identity_of_part = np.repeat(order, parts)
        part = np.arange(len(identity_of_part)) - np.repeat(np.cumsum(parts) - parts, parts)
        for batch in torch.randperm(num_batches, generator=rng).tolist():
            yield self._fill(identity_of_part[batch::num_batches], part[batch::num_batches], places, rng)

    def _fill(
        self, identities: IntArray, parts: IntArray, places: int, rng: torch.Generator
    ) -> tuple[IntArray, IntArray]:
        """Shuffle a step's identities and add others, at random, up to ``places``."""
        missing = places - len(identities)
        if missing > 0:
            free = np.ones(len(self._count), dtype=bool)
            free[identities] = False
            others = np.flatnonzero(free)
            extra = others[torch.randperm(len(others), generator=rng)[:missing].numpy()]
            identities = np.concatenate([identities, extra])
            parts = np.concatenate([parts, np.zeros(missing, dtype=np.int64)])
        shuffled = torch.randperm(places, generator=rng).numpy()
        return identities[shuffled], parts[shuffled]

    def _draw(
        self, identities: IntArray, parts: IntArray, rng: torch.Generator, ordered: dict[int, IntArray]
    ) -> list[int]:
        """Take part ``parts[i]`` (K rows) of every identity's shuffled rows."""
        if self.coverage == "identities":
            shuffled, begin = self._shuffled_rows(identities, rng)
            count = self._count[identities]
        else:
            shuffled = np.concatenate([ordered[i] for i in identities.tolist()])
            count = self._count[identities]
            begin = np.cumsum(count) - count
        within = parts[:, None] * self.num_instances + np.arange(self.num_instances)
        drawn: list[int] = shuffled[begin[:, None] + within % count[:, None]].ravel().tolist()
        return drawn

    def _order_new(self, identities: IntArray, rng: torch.Generator, ordered: dict[int, IntArray]) -> None:
        """Shuffle an identity once an epoch, when any rank first shows it, so that its parts do not overlap."""
        new = np.array([i for i in identities.tolist() if i not in ordered], dtype=np.int64)
        rows, first = self._shuffled_rows(new, rng)
        for i, at in zip(new.tolist(), first.tolist(), strict=True):
            ordered[i] = rows[at : at + self._count[i]]

    def _shuffled_rows(self, identities: IntArray, rng: torch.Generator) -> tuple[IntArray, IntArray]:
        """Rows of the identities, each identity's in random order, and where each identity's begin."""
        count = self._count[identities]
        begin = np.cumsum(count) - count
        owner = np.repeat(np.arange(len(identities)), count)
        rows = self._rows[np.arange(int(count.sum())) - begin[owner] + self._first[identities][owner]]
        key = torch.rand(len(rows), generator=rng, dtype=torch.float64).numpy()
        order = np.lexsort((key, owner))
        if self._cameras is None or len(rows) == 0:
            return rows[order], begin
        camera = self._cameras[rows]
        by_camera = np.lexsort((key, camera, owner))
        place = np.arange(len(rows)) - begin[owner]
        if self.coverage == "images":  # deal each camera's images over the parts of the identity, like cards
            part = place % -(-count // self.num_instances)[owner]
            return rows[by_camera[np.lexsort((place, part, owner))]], begin
        # the n-th image of every camera comes before the (n+1)-th of any
        new_group = np.ones(len(rows), dtype=bool)
        new_group[1:] = np.diff(owner).astype(bool) | np.diff(camera[by_camera]).astype(bool)
        start_of_group = np.maximum.accumulate(np.where(new_group, np.arange(len(rows)), 0))
        turn = np.empty(len(rows), dtype=np.int64)
        turn[by_camera] = np.arange(len(rows)) - start_of_group
        return rows[np.lexsort((key, turn, owner))], begin


def _integers(name: str, values: Sequence[int] | Tensor | npt.NDArray[np.integer[Any]]) -> IntArray:
    array: npt.NDArray[Any] = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise fail(
            "PKSampler",
            f"{name} as a flat list of integers",
            f"shape {array.shape}, {array.dtype}",
            "Number your identities: np.unique(names, return_inverse=True)[1].",
        )
    return array.astype(np.int64)


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    mixed = int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(mixed >> 1)
