"""One epoch of PK batches: identities are dealt at once, and rows are looked up on demand."""

import numpy as np
import numpy.typing as npt

from clipreid_kit.samplers._deal import Deal
from clipreid_kit.samplers._integers import IntArray, Positions
from clipreid_kit.samplers._pk_options import PKOptions
from clipreid_kit.samplers._random import permutation, random_key_of, seeded_generator
from clipreid_kit.samplers._random_orders import RandomOrders
from clipreid_kit.samplers._rows_by_identity import RowsByIdentity, Spread


class PKEpoch:
    """All batches of one epoch on one rank. The deal is the same on all ranks.

    Args:
        rows: Rows of each identity.
        parts: Number of parts of K rows that each identity shows in the epoch.
        num_batches: Number of batches.
        options: Options of the sampler. With the epoch, its seed decides everything; its rank is
            that whose rows :meth:`batches` looks up.
        epoch: Number of the epoch.
        stream: Number of the stream that the order of the rows is drawn from. Epochs that differ in
            it and in ``rows`` alone deal the same identities, and order their rows apart.
    """

    def __init__(
        self,
        rows: RowsByIdentity,
        parts: IntArray,
        num_batches: int,
        options: PKOptions,
        *,
        epoch: int,
        stream: int = 0,
    ) -> None:
        self._rows = rows
        self._epoch = epoch
        # Cameras are spread over the parts of an identity if an epoch shows all of them.
        self._spread: Spread = "parts" if options.covers_images else "draw"

        num_identities = options.num_identities
        self._step_size = options.step_size
        self._slots_of_rank = options.rank * num_identities + np.arange(num_identities)

        rng = seeded_generator(options.seed, epoch, 0)
        self._order = permutation(len(rows), rng)
        self._deal = Deal(parts[self._order], num_batches, rng)
        self._num_batches = num_batches

        # Slots of a step that were not dealt a part are filled from a second line of all
        # identities.
        self._reserve = RandomOrders(len(rows), 1, rng)

        # The rows of an identity are ordered when it is first shown, by keys that do not depend on
        # when that is.
        self._stream_of_keys = seeded_generator(options.seed, epoch, 1 + stream).initial_seed()
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

    def _rows_of(self, identity: IntArray, part: IntArray) -> Positions:
        """K rows of each identity's part; too few rows are repeated from the first."""
        num_instances = self._rows.num_instances
        count = self._rows.count[identity][:, :, None]
        first = self._rows.first[identity][:, :, None]

        within = (part[:, :, None] * num_instances + np.arange(num_instances)) % count
        rows: Positions = self._ordered_rows[first + within]
        if self._rows.copies is None:
            return rows
        return self._rows.copies.in_turn(rows, self._epoch + part[:, :, None])

    def _slots_of_all_ranks(self, begin: int, end: int) -> tuple[IntArray, IntArray]:
        """Identity, and number of its part, in each slot of these steps (steps, slots)."""
        place = self._deal.places(begin, end)
        num_rounds = self._deal.num_rounds
        shape = end - begin, self._step_size

        is_empty = np.ones(shape, dtype=bool)
        is_empty[:, :num_rounds] = place >= self._deal.num_parts

        identity = np.zeros(shape, dtype=np.int64)
        part = np.zeros(shape, dtype=np.int64)
        is_dealt = ~is_empty
        position, part[is_dealt] = self._deal.identity_and_part(place[is_dealt[:, :num_rounds]])
        identity[is_dealt] = self._order[position]

        steps = np.flatnonzero(is_empty.any(axis=1))
        if len(steps):
            identity[steps], part[steps] = self._fill_from_reserve(
                identity[steps], part[steps], is_empty[steps], place[steps, -1]
            )
        return identity, part

    def _fill_from_reserve(
        self,
        identity: IntArray,
        part: IntArray,
        is_empty: npt.NDArray[np.bool_],
        last_place: IntArray,
    ) -> tuple[IntArray, IntArray]:
        """Fill empty slots with the next identities of the reserve that are not in the step yet.

        Steps are served in the order of the last round of the deal.
        """
        missing_in_all = self._step_size - self._deal.num_rounds
        step_in_turn = last_place - (self._deal.num_rounds - 1) * self._num_batches
        served_more = np.maximum(last_place - self._deal.num_parts, 0)
        reserve_begin = step_in_turn * missing_in_all + served_more

        # As many candidates as a step has slots, all different: enough of them are free.
        position = reserve_begin[:, None] + np.arange(self._step_size)
        turn, position = np.divmod(position, len(self._rows))
        candidate = self._reserve.entry(np.asarray(0), position)

        held = np.where(is_empty, -1, identity)
        is_chosen = ~(candidate[:, :, None] == held[:, None, :]).any(axis=2)
        is_chosen &= np.cumsum(is_chosen, axis=1) <= is_empty.sum(axis=1, keepdims=True)
        identity[is_empty] = candidate[is_chosen]
        part[is_empty] = 1 + turn[is_chosen]
        return identity, part

    def _order_rows_of(self, identity: IntArray) -> None:
        """Order the rows of the identities that are shown for the first time."""
        new = np.unique(identity[~self._is_ordered[identity]])
        if len(new) == 0:
            return

        positions = self._rows.positions(new)
        key = random_key_of(self._stream_of_keys, positions)
        self._ordered_rows[positions] = self._rows.shuffled(new, key, self._spread)
        self._is_ordered[new] = True
