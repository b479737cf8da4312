"""One epoch of PK batches: identities are dealt at once, and rows are looked up on demand."""

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit.samplers._integers import IntArray
from clipreid_kit.samplers._random import permutation, random_keys, seeded_generator
from clipreid_kit.samplers._rows_by_identity import RowsByIdentity, Spread


def deal(parts: IntArray, num_batches: int, rng: torch.Generator) -> IntArray:
    """Deal the parts of all identities over the batches, no two parts of one identity to one batch.

    The parts are laid out in one line, identity after identity, and dealt in rounds of
    ``num_batches`` parts: a batch gets at most one part per round, in a random order. As no
    identity has more parts than there are batches, at most one identity spans two successive
    rounds; in the second, its parts go to batches that do not hold it yet.

    Args:
        parts: Number of parts of each identity, none above ``num_batches``.
        num_batches: Number of batches.
        rng: Generator of the orders.

    Returns:
        Table (rounds, batches) of positions in the line; -1 where the last round has no part for a
        batch.
    """
    identity_of_part = np.repeat(np.arange(len(parts)), parts)
    num_parts = len(identity_of_part)
    num_rounds = -(-num_parts // num_batches)
    table = np.full((num_rounds, num_batches), -1, dtype=np.int64)
    order = np.arange(0)

    for round_number in range(num_rounds):
        begin = round_number * num_batches
        identities = identity_of_part[begin : begin + num_batches]
        previous_order = order
        order = permutation(num_batches, rng)

        if round_number > 0 and identities[0] == identity_of_part[begin - 1]:
            spanning = identities[0]
            num_before = begin - int(np.searchsorted(identity_of_part, spanning))
            num_now = int(np.searchsorted(identities, spanning, side="right"))
            order = _put_free_first(order, previous_order[-num_before:], num_now)

        table[round_number, order[: len(identities)]] = np.arange(begin, begin + len(identities))

    return table


def _put_free_first(order: IntArray, taken: IntArray, number: int) -> IntArray:
    """Move the first ``number`` batches of the order that are not taken to its front."""
    is_taken = np.zeros(len(order), dtype=bool)
    is_taken[taken] = True

    free = np.flatnonzero(~is_taken[order])[:number]
    return np.concatenate([order[free], np.delete(order, free)])


class PKEpoch:
    """All batches of one epoch on one rank. The deal is the same on all ranks.

    Args:
        rows: Rows of each identity.
        parts: Number of parts of K rows that each identity shows in the epoch.
        num_batches: Number of batches.
        num_identities: P, identities of a batch.
        seed: Seed; with ``epoch`` it decides everything.
        epoch: See ``seed``.
        rank: The rank whose rows :meth:`batches` looks up.
        world_size: Number of ranks.
        covers_images: Whether the epoch shows all rows, so that cameras have to be spread over the
            parts.
    """

    def __init__(
        self,
        rows: RowsByIdentity,
        parts: IntArray,
        num_batches: int,
        num_identities: int,
        *,
        seed: int,
        epoch: int,
        rank: int,
        world_size: int,
        covers_images: bool,
    ) -> None:
        self._rows = rows
        self._epoch = epoch
        self._covers_images = covers_images
        self._step_size = num_identities * world_size  # identities of a step, on all ranks
        self._slots_of_rank = rank * num_identities + np.arange(num_identities)

        rng = seeded_generator(seed, epoch, 0)
        order = permutation(len(rows), rng)
        parts = parts[order]
        first_part = np.cumsum(parts) - parts
        self._identity_of_part = np.repeat(order, parts)
        self._number_of_part = np.arange(int(parts.sum())) - np.repeat(first_part, parts)
        self._table = deal(parts, num_batches, rng)

        # Slots of a step that were not dealt a part are filled from a second line of all
        # identities.
        self._reserve = permutation(len(rows), rng)
        has_no_last_part = self._table[-1] < 0
        self._num_missing = self._step_size - len(self._table) + has_no_last_part.astype(np.int64)
        self._reserve_begin = np.cumsum(self._num_missing) - self._num_missing

        # The rows of an identity are ordered when it is first shown, by keys that do not depend on
        # when that is.
        self._key = random_keys(len(rows.rows), seeded_generator(seed, epoch, 1))
        self._ordered_rows = np.empty_like(rows.rows)
        self._is_ordered = np.zeros(len(rows), dtype=bool)

    def batches(self, begin: int, end: int) -> list[list[int]]:
        """Return the batches ``begin`` to ``end`` of this rank, each a list of P x K rows."""
        identity, part = self._slots_of_all_ranks(begin, end)

        # Ranks take turns in the rounds of the table, so that the reserve does not always go to the
        # last rank.
        step = np.arange(begin, end)[:, None]
        slot = (self._slots_of_rank[None, :] + step) % self._step_size
        identity = np.take_along_axis(identity, slot, axis=1)
        part = np.take_along_axis(part, slot, axis=1)

        self._order_rows_of(identity)
        batches: list[list[int]] = self._rows_of(identity, part).reshape(end - begin, -1).tolist()
        return batches

    def _rows_of(self, identity: IntArray, part: IntArray) -> IntArray:
        """K rows of each identity's part; too few rows are repeated from the first."""
        num_instances = self._rows.num_instances
        count = self._rows.count[identity][:, :, None]
        first = self._rows.first[identity][:, :, None]

        within = (part[:, :, None] * num_instances + np.arange(num_instances)) % count
        rows: IntArray = self._ordered_rows[first + within]
        if self._rows.copies is None:
            return rows
        return self._rows.copies.in_turn(rows, self._epoch + part[:, :, None])

    def _slots_of_all_ranks(self, begin: int, end: int) -> tuple[IntArray, IntArray]:
        """Identity, and number of its part, in each slot of these steps (steps, slots)."""
        dealt = self._table[:, begin:end].T
        position = np.full((end - begin, self._step_size), -1, dtype=np.int64)
        position[:, : dealt.shape[1]] = dealt

        identity = self._identity_of_part[position]
        part = self._number_of_part[position]

        steps = np.flatnonzero(self._num_missing[begin:end])
        if len(steps):
            is_empty = position[steps] < 0
            identity[steps], part[steps] = self._fill_from_reserve(
                identity[steps], part[steps], is_empty, begin + steps
            )
        return identity, part

    def _fill_from_reserve(
        self,
        identity: IntArray,
        part: IntArray,
        is_empty: npt.NDArray[np.bool_],
        steps: IntArray,
    ) -> tuple[IntArray, IntArray]:
        """Fill empty slots with the next identities of the reserve that are not in the step yet."""
        num_identities = len(self._rows)
        row = np.arange(len(steps))[:, None]
        is_held = np.zeros((len(steps), num_identities + 1), dtype=bool)
        is_held[row, np.where(is_empty, num_identities, identity)] = True

        # As many candidates as a step has slots, all different: enough of them are free.
        position = self._reserve_begin[steps][:, None] + np.arange(self._step_size)
        turn, position = np.divmod(position, num_identities)
        candidate = self._reserve[position]

        is_chosen = ~is_held[row, candidate]
        is_chosen &= np.cumsum(is_chosen, axis=1) <= self._num_missing[steps][:, None]
        identity[is_empty] = candidate[is_chosen]
        part[is_empty] = 1 + turn[is_chosen]
        return identity, part

    def _order_rows_of(self, identity: IntArray) -> None:
        """Order the rows of the identities that are shown for the first time."""
        new = np.unique(identity[~self._is_ordered[identity]])
        if len(new) == 0:
            return

        positions = self._rows.positions(new)
        key = self._key[positions].astype(np.int64)
        spread: Spread = "parts" if self._covers_images else "draw"
        self._ordered_rows[positions] = self._rows.shuffled(new, key, spread)
        self._is_ordered[new] = True
