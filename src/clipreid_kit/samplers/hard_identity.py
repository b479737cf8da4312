"""Batches of identities that look alike: graph sampling."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Sampler

from clipreid_kit._checks import check_choice, check_embeddings, check_integer, fail
from clipreid_kit.distances import dot_product, l2_normalize
from clipreid_kit.samplers._rows import (
    IntArray,
    Integers,
    RowsByIdentity,
    Short,
    check_counts,
    generator,
    integers,
    permutation,
    random_keys,
)

CHUNK = (
    64  # batches that one stream of random numbers serves: part of what the batches of a seed are
)
BLOCK = 1 << 24  # similarities, or numbers of embeddings, that are held at once


class HardIdentitySampler(Sampler[list[int]]):
    r"""Batch sampler that puts an identity together with the P - 1 identities that look most like it.

    Use it once random batches have become easy: almost every negative of a random batch is far away, and here almost
    none is. Each identity is the anchor of one batch in an epoch; the batch holds K random images of the anchor and of
    each of its nearest identities. Call :meth:`update` with the embeddings of the training images before the first
    epoch, and again every epoch or every few.

    Args:
        labels: Identity of each row of the data set, integers, at least one.
        num_identities: P >= 2 to be of use, on each rank.
        num_instances: K >= 1; metric losses need K >= 2.
        seed: With the epoch and the neighbours it decides every batch; global random states are neither read nor set.
        represent: What stands for an identity when neighbours are looked for: the ``"mean"`` of its normalised
            embeddings, or one of them at ``"random"``, drawn by seed and epoch, as in the paper.
        short: What to do with an identity of fewer than K images: ``"repeat"``, ``"drop"`` or ``"error"``.
        cameras: Camera of each row. If given, the K images of an identity come from as many cameras as it has.
        rank: This process, in [0, world_size).
        world_size: Number of processes. Each has anchors of its own, and in one step all identities of all ranks
            differ: a rank takes the nearest identities that are no anchor of the step and that no lower rank has taken.

    Raises:
        ValueError: As :class:`PKSampler` does; and when batches are asked for before :meth:`update`.

    Example:
        >>> labels = [0, 0, 1, 1, 2, 2, 3, 3]
        >>> sampler = HardIdentitySampler(labels, num_identities=2, num_instances=2)
        >>> sampler.update(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), torch.arange(4))
        >>> sorted(sorted({labels[row] for row in batch}) for batch in sampler)  # 0 with 1, 2 with 3
        [[0, 1], [0, 1], [2, 3], [2, 3]]

    Note:
        An epoch has a batch for each identity (I / ``world_size`` on each rank, rounded up): P times as many as an
        epoch of :class:`PKSampler` that covers identities.

    References:
        Liao and Shao, Graph Sampling Based Deep Metric Learning for Generalizable Person Re-Identification, CVPR
        2022, section 3.2.
    """

    def __init__(
        self,
        labels: Integers,
        num_identities: int = 16,
        num_instances: int = 4,
        *,
        seed: int = 0,
        represent: Literal["mean", "random"] = "mean",
        short: Short = "repeat",
        cameras: Integers | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_counts("HardIdentitySampler", num_identities, num_instances, seed, rank, world_size)
        check_choice("HardIdentitySampler", "represent", represent, ("mean", "random"))
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = seed
        self.represent = represent
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._start = 0
        self._yielded = 0
        size = num_identities * world_size
        self._held = RowsByIdentity(
            "HardIdentitySampler", labels, num_instances, short, cameras, size
        )
        self._neighbours: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        """Batches of an epoch: exact, equal on all ranks and in all epochs."""
        return math.ceil(len(self._held) / self.world_size)

    @torch.no_grad()
    def update(self, embeddings: Float[Tensor, "n d"], labels: Integers) -> None:
        """Find the nearest identities of each identity, by cosine similarity, for the iterations that follow.

        Blocks of similarities are computed where the embeddings are, so memory grows with identities x (D + P x
        ``world_size``), not with their square. Every rank has to be given the same embeddings; where ranks compute
        on devices that round differently, hand the :meth:`state_dict` of one to the others.

        Args:
            embeddings: Of any images of the training set, on any device; any scale, since rows are normalised here.
            labels: Identity of each embedding, as the labels that the sampler was made with. Identities that the
                sampler does not have are left out.

        Raises:
            ValueError: If an identity of the sampler has no embedding, one is not finite, or the sizes disagree.
        """
        owner = "HardIdentitySampler.update"
        check_embeddings(owner, "embeddings", embeddings)
        label = integers(owner, "labels", labels)
        if label.size != embeddings.shape[0]:
            raise fail(owner, f"{embeddings.shape[0]} labels, one for each embedding", label.size)
        identity = np.searchsorted(self._held.labels, label)
        row = np.flatnonzero(self._held.labels[np.minimum(identity, len(self._held) - 1)] == label)
        identity = identity[row]
        without = np.flatnonzero(np.bincount(identity, minlength=len(self._held)) == 0)
        if len(without):
            raise fail(
                owner,
                "an embedding of every identity",
                f"none for {len(without)} of {len(self._held)} (identity {self._held.labels[without[0]]})",
                "Embed the training images that the sampler was made for, with their labels.",
            )
        if self.represent == "random":
            order = permutation(len(row), generator(self.seed, self.epoch, 2))
            first = order[np.unique(identity[order], return_index=True)[1]]
            row, identity = row[first], identity[first]
        centres = _mean_directions(owner, embeddings, row, identity, len(self._held))
        self._neighbours = _nearest(centres, self.num_identities * self.world_size - 1)

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch that the next iteration yields, and the batch it begins with (to resume inside one)."""
        check_integer("HardIdentitySampler.set_epoch", "epoch", epoch, 0)
        check_integer("HardIdentitySampler.set_epoch", "start_batch", start_batch, 0)
        if start_batch > len(self):
            raise fail(
                "HardIdentitySampler.set_epoch", f"start_batch in [0, {len(self)}]", start_batch
            )
        self.epoch = epoch
        self._start = start_batch
        self._yielded = start_batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch, number of batches handed out, and the neighbours (``None`` before the first :meth:`update`)."""
        neighbours = None if self._neighbours is None else torch.from_numpy(self._neighbours.copy())
        return {"epoch": self.epoch, "batches": self._yielded, "neighbours": neighbours}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, on any rank: the next iteration yields the batches left."""
        neighbours = state["neighbours"]
        if neighbours is not None:
            expected = (len(self._held), self.num_identities * self.world_size - 1)
            if tuple(neighbours.shape) != expected:
                raise fail(
                    "HardIdentitySampler.load_state_dict",
                    f"neighbours of shape {expected}",
                    tuple(neighbours.shape),
                    "Make the sampler with the labels, P and world_size that the state was taken with.",
                )
            neighbours = neighbours.cpu().numpy().astype(np.int32)
        self._neighbours = neighbours
        self.set_epoch(state["epoch"], start_batch=state["batches"])

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, each a list of P x K row indices, the anchor's K first."""
        if self._neighbours is None:
            raise fail(
                "HardIdentitySampler",
                "update(embeddings, labels) before the first batch",
                "none",
                "Where there are no embeddings yet, train the first epochs with PKSampler.",
            )
        start, self._start = self._start, 0
        self._yielded = start
        neighbours, epoch = (
            self._neighbours,
            self.epoch,
        )  # an update takes effect with the next iteration
        order = permutation(len(self._held), generator(self.seed, epoch, 0))
        anchors = np.resize(
            order, (len(self), self.world_size)
        )  # the last step goes on with the first anchors
        for chunk in range(start // CHUNK, -(-len(self) // CHUNK)):
            begin = chunk * CHUNK
            identities = self._with_neighbours(anchors[begin : begin + CHUNK], neighbours)
            rows = self._draw(identities, generator(self.seed, epoch, 1, self.rank, chunk))
            for number in range(max(start, begin), begin + len(rows)):
                self._yielded = number + 1
                yield rows[number - begin]

    def _with_neighbours(self, anchors: IntArray, neighbours: npt.NDArray[np.int32]) -> IntArray:
        """Identities of this rank in some steps: (steps, P), given the anchors (steps, ranks)."""
        row = np.arange(len(anchors))[:, None]
        is_in = np.zeros((len(anchors), len(self._held)), dtype=bool)
        is_in[row, anchors] = True
        chosen = anchors[:, :0]
        for rank in range(
            self.rank + 1
        ):  # lower ranks choose first; what they leave is always enough
            candidate = neighbours[anchors[:, rank]]
            free = ~is_in[row, candidate]
            free &= np.cumsum(free, axis=1) < self.num_identities
            chosen = candidate[free].astype(np.int64).reshape(len(anchors), self.num_identities - 1)
            is_in[row, chosen] = True
        return np.concatenate([anchors[:, self.rank, None], chosen], axis=1)

    def _draw(self, identities: IntArray, rng: torch.Generator) -> list[list[int]]:
        """K random rows of each identity, without repetition while there are others."""
        flat = identities.ravel()
        count = self._held.count[flat]
        key = random_keys(int(count.sum()), rng).astype(np.int64)
        rows = self._held.shuffled(flat, key, "draw")
        place = (np.cumsum(count) - count)[:, None] + np.arange(self.num_instances) % count[:, None]
        batches: list[list[int]] = rows[place].reshape(len(identities), -1).tolist()
        return batches


def _mean_directions(
    owner: str, embeddings: Tensor, row: IntArray, identity: IntArray, num_identities: int
) -> Tensor:
    """Mean of the normalised rows of each identity, normalised."""
    total = embeddings.new_zeros((num_identities, embeddings.shape[1]), dtype=torch.float32)
    step = max(1, BLOCK // embeddings.shape[1])
    for begin in range(0, len(row), step):
        chosen = torch.from_numpy(row[begin : begin + step]).to(embeddings.device)
        into = torch.from_numpy(identity[begin : begin + step]).to(embeddings.device)
        rows = embeddings[chosen]
        if not bool(rows.isfinite().all()):
            raise fail(owner, "finite embeddings", "NaN or infinity", "Did the model diverge?")
        total.index_add_(0, into, l2_normalize(rows).float())
    return l2_normalize(total)


def _nearest(centres: Tensor, number: int) -> npt.NDArray[np.int32]:
    """The most similar other rows of each row, the nearest first."""
    nearest = np.empty((len(centres), number), dtype=np.int32)
    step = max(1, BLOCK // len(centres))
    for begin in range(0, len(centres), step):
        similarity = dot_product(centres[begin : begin + step], centres)
        own = torch.arange(len(similarity), device=centres.device)
        similarity[own, begin + own] = -torch.inf
        nearest[begin : begin + step] = similarity.topk(number, dim=1).indices.cpu().numpy()
    return nearest
