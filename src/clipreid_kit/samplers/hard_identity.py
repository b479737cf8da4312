"""Batches of identities that look alike: graph sampling."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Sampler

from clipreid_kit._checks import check_choice, check_embeddings, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit._similarity.nearest_in_triangle import nearest_in_triangle
from clipreid_kit.distances import l2_normalize
from clipreid_kit.samplers._fingerprint import data_checksum
from clipreid_kit.samplers._integers import IntArray, Integers, as_integers
from clipreid_kit.samplers._loader_conventions import EpochSetter, warn_if_sharded_twice
from clipreid_kit.samplers._pk_options import IfTooFew, PKOptions
from clipreid_kit.samplers._position import Position
from clipreid_kit.samplers._random import permutation, random_keys, seeded_generator
from clipreid_kit.samplers._rows_by_identity import group_rows

_OWNER = "HardIdentitySampler"

CHUNK = 64  # batches drawn from one stream of random numbers, so it decides the batches of a seed
BLOCK = 1 << 24  # numbers of embeddings that are held at once


@fixed_options(not_kept=("labels", "cameras", "images"))
class HardIdentitySampler(Sampler[list[int]]):
    r"""Batch sampler of an identity and the P - 1 identities that look most like it.

    Use it once random batches have become easy: almost every negative of a random batch is far
    away, and here almost none is. Each identity is the anchor of one batch per epoch. The batch
    holds K random images of the anchor and of each of its nearest identities. Call :meth:`update`
    with the embeddings of the training images before the first epoch, and again every epoch or
    every few.

    Args:
        labels: Identity of each row of the data set: integers, at least one.
        num_identities: P, on each rank; at least 2 to be of use.
        num_instances: K >= 1; metric losses need K >= 2.
        seed: Seed, at least 0. With the epoch and the neighbours it decides every batch; global
            random states are neither read nor set.
        representative: What represents an identity in the search for neighbours: the ``"mean"`` of
            its normalised embeddings, or one of them at ``"random"``, drawn by seed and epoch, as
            in the paper.
        if_too_few: As of :class:`PKSampler`.
        cameras: As of :class:`PKSampler`, with the coverage of identities.
        images: As of :class:`PKSampler`.
        rank: Rank of this process, in [0, world_size).
        world_size: Number of processes. Each has its own anchors, and in one step all identities of
            all ranks differ: a rank takes the nearest identities that are no anchor of the step and
            not taken by a lower rank.

    Attributes:
        epoch: The epoch that the next iteration yields; see :meth:`set_epoch`.

    Warns:
        UserWarning: If ``images`` shows identities of a single image, and K is 2 or more; once if
            Accelerate prepared the loader of a sampler with ``world_size`` above 1.

    Raises:
        ValueError: As :class:`PKSampler` does; and if batches are requested before :meth:`update`.

    Example:
        >>> labels = [0, 0, 1, 1, 2, 2, 3, 3]
        >>> sampler = HardIdentitySampler(labels, num_identities=2, num_instances=2)
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> sampler.update(embeddings, torch.arange(4))  # 0 is near 1, and 2 near 3
        >>> sorted(sorted({labels[row] for row in batch}) for batch in sampler)
        [[0, 1], [0, 1], [2, 3], [2, 3]]

    Note:
        An epoch has a batch for each identity (I / ``world_size`` on each rank, rounded up): P
        times as many as an epoch of :class:`PKSampler` that covers identities.

    References:
        Liao and Shao, Graph Sampling Based Deep Metric Learning for Generalizable Person
        Re-Identification, CVPR 2022, section 3.2.
    """

    num_identities: Final[int]
    num_instances: Final[int]
    seed: Final[int]
    representative: Final[Literal["mean", "random"]]
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
        representative: Literal["mean", "random"] = "mean",
        if_too_few: IfTooFew = "repeat",
        cameras: Integers | None = None,
        images: Integers | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_choice(_OWNER, "representative", representative, ("mean", "random"))
        options = PKOptions(
            owner=_OWNER,
            num_identities=num_identities,
            num_instances=num_instances,
            seed=seed,
            coverage="identities",
            if_too_few=if_too_few,
            rank=rank,
            world_size=world_size,
        )
        self._rows = group_rows(labels, cameras, images, options)

        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = seed
        self.representative = representative
        self.if_too_few = if_too_few
        self.rank = rank
        self.world_size = world_size
        self._neighbours: npt.NDArray[np.int32] | None = None

        settings = {
            "num_identities": num_identities,
            "num_instances": num_instances,
            "seed": seed,
            "representative": representative,
            "if_too_few": if_too_few,
            "world_size": world_size,
            "data": data_checksum(self._rows),
        }
        self._position = Position(_OWNER, len(self), settings)

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
        return math.ceil(len(self._rows) / self.world_size)

    def __repr__(self) -> str:
        """Sizes and options, on one line."""
        return (
            f"HardIdentitySampler({len(self._rows)} identities, {len(self)} batches, "
            f"num_identities={self.num_identities}, num_instances={self.num_instances}, "
            f"seed={self.seed}, representative={self.representative!r}, "
            f"if_too_few={self.if_too_few!r}, cameras={self._rows.num_cameras}, "
            f"rank={self.rank}, world_size={self.world_size}, epoch={self.epoch})"
        )

    @torch.no_grad()
    def update(self, embeddings: Float[Tensor, "n d"], labels: Integers) -> None:
        """Find the nearest identities of each identity, by cosine, for the following iterations.

        Similarities are computed in blocks on the device of the embeddings, so memory grows with
        identities x (D + P x ``world_size``), not with their square. Every rank needs the same
        embeddings; where ranks compute on devices that round differently, load the
        :meth:`state_dict` of one rank on the others.

        Args:
            embeddings: Embeddings of any images of the training set, on any device and of any
                scale: rows are normalised here.
            labels: Identity of each embedding, as in the labels of the sampler. Identities that the
                sampler does not have are ignored.

        Raises:
            ValueError: If an identity of the sampler has no embedding, one is not finite, or the
                sizes disagree.
        """
        owner = f"{_OWNER}.update"
        check_embeddings(owner, "embeddings", embeddings)
        label = as_integers(owner, "labels", labels)
        if label.size != embeddings.shape[0]:
            raise fail(owner, f"{embeddings.shape[0]} labels, one for each embedding", label.size)

        row, identity = self._known_rows(label)
        self._check_every_identity_has_a_row(owner, identity)
        if self.representative == "random":
            order = permutation(len(row), seeded_generator(self.seed, self.epoch, 2))
            first_of_identity = order[np.unique(identity[order], return_index=True)[1]]
            row, identity = row[first_of_identity], identity[first_of_identity]

        centres = _mean_directions(owner, embeddings, row, identity, len(self._rows))
        self._neighbours = _nearest(centres, self._num_neighbours)

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
        """Return epoch, number of yielded batches, neighbours, and what the batches depend on.

        The neighbours are ``None`` before an update.
        """
        neighbours = None if self._neighbours is None else torch.from_numpy(self._neighbours.copy())
        return {"neighbours": neighbours, **self._position.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, on any rank, with the remaining batches.

        Args:
            state: The state.

        Raises:
            ValueError: If the state is of a sampler with other labels, cameras or options, whose
                batches are others.
        """
        self._position.check_state(state, "neighbours")
        neighbours = state["neighbours"]
        if neighbours is not None:
            expected = (len(self._rows), self._num_neighbours)
            if tuple(neighbours.shape) != expected:
                raise fail(
                    f"{_OWNER}.load_state_dict",
                    f"neighbours of shape {expected}",
                    tuple(neighbours.shape),
                    "Build the sampler with the labels, num_identities and world_size it had.",
                )
            neighbours = neighbours.cpu().numpy().astype(np.int32)

        self._neighbours = neighbours
        self._position.load_state_dict(state)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, each P x K row indices, those of the anchor first."""
        if self._neighbours is None:
            raise ValueError(
                f"{_OWNER}: call update(embeddings, labels) before the first batch; "
                "where there are no embeddings yet, train the first epochs with PKSampler."
            )
        warn_if_sharded_twice(_OWNER, self.world_size)

        # An update takes effect with the next iteration.
        neighbours = self._neighbours
        yield from self._position.iterate(partial(self._batches, neighbours))

    def _batches(
        self, neighbours: npt.NDArray[np.int32], epoch: int, start_batch: int
    ) -> Iterator[list[int]]:
        """Yield the batches of an epoch, from one of them on."""
        # The last step starts again with the first anchors, if ranks are left without one.
        order = permutation(len(self._rows), seeded_generator(self.seed, epoch, 0))
        anchors = np.resize(order, (len(self), self.world_size))

        num_chunks = -(-len(self) // CHUNK)
        for chunk in range(start_batch // CHUNK, num_chunks):
            begin = chunk * CHUNK
            identities = self._with_neighbours(anchors[begin : begin + CHUNK], neighbours)
            rng = seeded_generator(self.seed, epoch, 1, self.rank, chunk)
            batches = self._draw(identities, rng, epoch)

            yield from batches[max(start_batch - begin, 0) :]

    @property
    def _num_neighbours(self) -> int:
        """Neighbours of an identity: enough for the last rank to choose from."""
        return self.num_identities * self.world_size - 1

    def _known_rows(self, label: IntArray) -> tuple[IntArray, IntArray]:
        """Rows whose label the sampler has, and the identity of each."""
        identity = np.searchsorted(self._rows.labels, label)
        last = len(self._rows) - 1
        is_known = self._rows.labels[np.minimum(identity, last)] == label
        row = np.flatnonzero(is_known)
        return row, identity[row]

    def _check_every_identity_has_a_row(self, owner: str, identity: IntArray) -> None:
        """Raise ValueError if an identity of the sampler is not among those of the rows."""
        count = np.bincount(identity, minlength=len(self._rows))
        without = np.flatnonzero(count == 0)
        if len(without):
            raise ValueError(
                f"{owner}: {len(without)} of {len(self._rows)} identities have no embedding "
                f"(identity {self._rows.labels[without[0]]} is the first); embed all of them."
            )

    def _with_neighbours(self, anchors: IntArray, neighbours: npt.NDArray[np.int32]) -> IntArray:
        """Identities of this rank (steps, P) for the anchors of some steps (steps, ranks)."""
        step = np.arange(len(anchors))[:, None]
        is_taken = np.zeros((len(anchors), len(self._rows)), dtype=bool)
        is_taken[step, anchors] = True

        # Lower ranks choose first; every anchor has enough neighbours for what they leave.
        chosen = anchors[:, :0]
        for rank in range(self.rank + 1):
            candidate = neighbours[anchors[:, rank]]
            is_chosen = ~is_taken[step, candidate]
            is_chosen &= np.cumsum(is_chosen, axis=1) < self.num_identities
            chosen = candidate[is_chosen].astype(np.int64)
            chosen = chosen.reshape(len(anchors), self.num_identities - 1)
            is_taken[step, chosen] = True

        return np.concatenate([anchors[:, self.rank, None], chosen], axis=1)

    def _draw(self, identities: IntArray, rng: torch.Generator, epoch: int) -> list[list[int]]:
        """K random rows of each identity, no image twice while there are others."""
        flat = identities.ravel()
        count = self._rows.count[flat]
        key = random_keys(int(count.sum()), rng).astype(np.int64)
        rows = self._rows.shuffled(flat, key, "draw")

        begin = np.cumsum(count) - count
        position = begin[:, None] + np.arange(self.num_instances) % count[:, None]
        drawn = rows[position]
        if self._rows.copies is not None:
            drawn = self._rows.copies.in_turn(drawn, np.asarray(epoch))
        batches: list[list[int]] = drawn.reshape(len(identities), -1).tolist()
        return batches


def _mean_directions(
    owner: str, embeddings: Tensor, row: IntArray, identity: IntArray, num_identities: int
) -> Tensor:
    """Mean of the normalised rows of each identity, normalised."""
    dim = embeddings.shape[1]
    total = embeddings.new_zeros((num_identities, dim), dtype=torch.float32)
    block_size = max(1, BLOCK // dim)

    for begin in range(0, len(row), block_size):
        block = slice(begin, begin + block_size)
        rows = embeddings[torch.from_numpy(row[block]).to(embeddings.device)]
        if not bool(rows.isfinite().all()):
            raise ValueError(
                f"{owner}: the embeddings have NaN or infinite values; did the model diverge?"
            )
        identities = torch.from_numpy(identity[block]).to(embeddings.device)
        total.index_add_(0, identities, l2_normalize(rows).float())

    return l2_normalize(total)


def _nearest(centres: Tensor, number: int) -> npt.NDArray[np.int32]:
    """The most similar other rows of each row, the nearest first, and of equals the first."""

    def product(rows: slice, columns: slice, buffer: Tensor) -> Tensor:
        left, right = centres[rows], centres[columns]
        out = buffer[: len(left) * len(right)].view(len(left), len(right))
        return torch.mm(left, right.T, out=out)

    with torch.autocast(centres.device.type, enabled=False):
        _, nearest = nearest_in_triangle(
            product, len(centres), number, centres.device, first_of_ties=True
        )
    return nearest.cpu().numpy().astype(np.int32)
