"""An epoch of PK batches: parts of identities dealt over the batches, rows looked up when a batch is asked for."""

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit.samplers._rows import (
    IntArray,
    RowsByIdentity,
    generator,
    permutation,
    random_keys,
)


def deal(parts: IntArray, num_batches: int, rng: torch.Generator) -> IntArray:
    """Deal the parts of all identities over the batches; two parts of one identity never meet.

    The parts stand in a line, those of an identity side by side. Each ``num_batches`` of them are one row of the
    result, in a random order, so a batch (a column) gets at most one from each row. At most one identity begins in a
    row and goes on in the next: there its batches are chosen among those that it is not yet in.

    Args:
        parts: Parts of each identity in line, none above ``num_batches``.
        num_batches: Columns.
        rng: Decides the orders.

    Returns:
        Place in the line of each part, in rows and columns; -1 where the last row is not full.
    """
    identity = np.repeat(np.arange(len(parts)), parts)
    table = np.full((-(-len(identity) // num_batches), num_batches), -1, dtype=np.int64)
    batches = np.arange(0)
    for row, begin in enumerate(range(0, len(identity), num_batches)):
        held = identity[begin : begin + num_batches]
        last, batches = batches, permutation(num_batches, rng)
        if row and held[0] == identity[begin - 1]:
            before = begin - int(np.searchsorted(identity, held[0]))  # its parts in the row before
            after = int(np.searchsorted(held, held[0], side="right"))
            is_in = np.zeros(num_batches, dtype=bool)
            is_in[last[-before:]] = True
            free = np.flatnonzero(~is_in[batches])[:after]
            batches = np.concatenate([batches[free], np.delete(batches, free)])
        table[row, batches[: len(held)]] = np.arange(begin, begin + len(held))
    return table


class Epoch:
    """All batches of one epoch, on one rank; what is dealt is equal on all ranks.

    Args:
        held: The rows of each identity.
        parts: How many parts of K rows each identity shows in the epoch.
        num_batches: Batches of the epoch.
        num_identities: P.
        seed: Decides everything, with ``epoch``.
        epoch: See ``seed``.
        rank: Whose rows :meth:`batches` looks up.
        world_size: Number of ranks.
        all_parts: Whether an epoch shows all rows, so that cameras have to be spread over the parts.
    """

    def __init__(
        self,
        held: RowsByIdentity,
        parts: IntArray,
        num_batches: int,
        num_identities: int,
        *,
        seed: int,
        epoch: int,
        rank: int,
        world_size: int,
        all_parts: bool,
    ) -> None:
        self._held, self._all_parts = held, all_parts
        self._size = num_identities * world_size  # identities of a step, on all ranks
        self._mine = rank * num_identities + np.arange(num_identities)
        rng = generator(seed, epoch, 0)
        order = permutation(len(held), rng)
        parts = parts[order]
        self._identity = np.repeat(order, parts)
        self._part = np.arange(len(self._identity)) - np.repeat(np.cumsum(parts) - parts, parts)
        self._table = deal(parts, num_batches, rng)
        # places that are not dealt go round a second line of all identities
        self._reserve = permutation(len(held), rng)
        self._missing = self._size - len(self._table) + (self._table[-1] < 0).astype(np.int64)
        self._reserve_begin = np.cumsum(self._missing) - self._missing
        # an identity's rows are ordered once an epoch, when it is first shown, by keys that do not depend on when
        self._key = random_keys(len(held.rows), generator(seed, epoch, 1))
        self._ordered = np.empty_like(held.rows)
        self._is_ordered = np.zeros(len(held), dtype=bool)

    def batches(self, begin: int, end: int) -> list[list[int]]:
        """Batches ``begin`` to ``end``, each a list of P x K rows, of this rank."""
        identity, part = self._all_ranks(begin, end)
        # ranks take turns in the rows of the table: the last rank is not the one that gets the reserve
        column = (self._mine[None, :] + np.arange(begin, end)[:, None]) % self._size
        identity, part = (
            np.take_along_axis(identity, column, axis=1),
            np.take_along_axis(part, column, axis=1),
        )
        self._order(identity)
        num_instances, count = self._held.num_instances, self._held.count[identity][:, :, None]
        within = (part[:, :, None] * num_instances + np.arange(num_instances)) % count
        rows = self._ordered[self._held.first[identity][:, :, None] + within]
        batches: list[list[int]] = rows.reshape(end - begin, -1).tolist()
        return batches

    def _all_ranks(self, begin: int, end: int) -> tuple[IntArray, IntArray]:
        """Identities, and parts of them, of all ranks in these steps."""
        dealt = self._table[:, begin:end].T
        place = np.full((end - begin, self._size), -1, dtype=np.int64)
        place[:, : dealt.shape[1]] = dealt
        identity, part = self._identity[place], self._part[place]
        steps = np.flatnonzero(self._missing[begin:end])
        if len(steps):
            empty = place[steps] < 0
            identity[steps], part[steps] = self._fill(
                identity[steps], part[steps], empty, begin + steps
            )
        return identity, part

    def _fill(
        self, identity: IntArray, part: IntArray, empty: npt.NDArray[np.bool_], steps: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Put the next identities of the reserve into empty places, leaving out those that are in the step."""
        row = np.arange(len(steps))[:, None]
        is_in = np.zeros((len(steps), len(self._held) + 1), dtype=bool)
        is_in[row, np.where(empty, len(self._held), identity)] = True
        turn, place = np.divmod(
            self._reserve_begin[steps][:, None] + np.arange(self._size), len(self._held)
        )
        candidate = self._reserve[
            place
        ]  # all different, and as many as a step has: enough are free
        chosen = ~is_in[row, candidate]
        chosen &= np.cumsum(chosen, axis=1) <= self._missing[steps][:, None]
        identity[empty], part[empty] = candidate[chosen], 1 + turn[chosen]
        return identity, part

    def _order(self, identity: IntArray) -> None:
        new = np.unique(identity[~self._is_ordered[identity]])
        if len(new):
            places, _ = self._held.places(new)
            key = self._key[places].astype(np.int64)
            self._ordered[places] = self._held.shuffled(
                new, key, "parts" if self._all_parts else "draw"
            )
            self._is_ordered[new] = True
