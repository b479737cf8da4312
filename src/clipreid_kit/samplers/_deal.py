"""Deal the parts of all identities over the batches of an epoch, each batch on demand."""

import numpy as np
import torch

from clipreid_kit.samplers._integers import IntArray
from clipreid_kit.samplers._random_orders import RandomOrders


class Deal:
    """Deal of the parts of all identities, no two parts of one identity to one batch.

    The parts are laid out in one line, identity after identity, and dealt in rounds of
    ``num_batches`` parts: a batch gets at most one part per round, in a random order. As no
    identity has more parts than there are batches, at most one identity spans two successive
    rounds; in the second, its parts go to batches that do not hold it yet. The last round may have
    fewer parts than there are batches.

    Args:
        parts: Number of parts of each identity, none above ``num_batches``.
        num_batches: Number of batches.
        rng: Generator of the orders.

    Attributes:
        num_parts: Number of parts of all identities.
        num_rounds: Number of rounds.
    """

    def __init__(self, parts: IntArray, num_batches: int, rng: torch.Generator) -> None:
        end_of_identity = np.cumsum(parts)
        self.num_parts = int(end_of_identity[-1])
        self.num_rounds = -(-self.num_parts // num_batches)

        self._num_batches = num_batches
        self._parts = parts
        self._end_of_identity: IntArray = end_of_identity
        self._orders = RandomOrders(num_batches, self.num_rounds, rng)

        self._first_batches = self._part_spanning_identities()

    def places(self, begin: int, end: int) -> IntArray:
        """Return what the batches ``begin`` to ``end`` get in each round.

        Returns:
            Table (batches, rounds) of places in the line of parts. Those of the last round may lie
            beyond the last part: there, the batch gets nothing.
        """
        rounds = np.arange(self.num_rounds)
        batches = np.arange(begin, end)
        position = self._orders.position(rounds[:, None], batches)

        for round_number, first_batches in self._first_batches.items():
            is_first = np.flatnonzero(position[round_number] < len(first_batches))
            if len(is_first):
                order = np.argsort(first_batches)
                found = np.searchsorted(first_batches, batches[is_first], sorter=order)
                position[round_number, is_first] = order[found]

        return (position + rounds[:, None] * self._num_batches).T

    def identity_and_part(self, place: IntArray) -> tuple[IntArray, IntArray]:
        """Return the identity at each place of the line, and the number of its part."""
        identity = np.searchsorted(self._end_of_identity, place, side="right")
        part = place - self._begin_of(identity)
        return identity, part

    def _part_spanning_identities(self) -> dict[int, IntArray]:
        """Give the first parts of a round to batches that lack their identity.

        Returns:
            The first batches of each round, where they are not those of its random order.
        """
        later_rounds = np.arange(1, self.num_rounds)
        begin = later_rounds * self._num_batches
        spanning = np.searchsorted(self._end_of_identity, begin, side="right")
        num_before = begin - self._begin_of(spanning)
        num_now = np.where(num_before > 0, self._end_of_identity[spanning] - begin, 0)

        # As many batches as both rounds' parts of an identity: enough of them lack it.
        num_first = num_before + num_now
        positions = np.arange(int(num_first.max(initial=0)))
        first = self._orders.entry(later_rounds[:, None], positions)
        last_positions = np.arange(
            self._num_batches - int(num_before.max(initial=0)), self._num_batches
        )
        last = self._orders.entry(later_rounds[:, None] - 1, last_positions)

        first_batches: dict[int, IntArray] = {}
        for index in np.flatnonzero(num_before).tolist():
            # The last batches of the round before may have been changed here.
            changed = first_batches.get(index)
            if changed is not None:
                is_changed = last_positions < len(changed)
                last[index, is_changed] = changed[last_positions[is_changed]]

            order = first[index, : num_first[index]]
            has_it = last[index, len(last_positions) - num_before[index] :]
            free = np.flatnonzero(~np.isin(order, has_it))[: num_now[index]]
            first_batches[index + 1] = np.concatenate([order[free], np.delete(order, free)])

        return first_batches

    def _begin_of(self, identity: IntArray) -> IntArray:
        """Place of the first part of each identity."""
        return self._end_of_identity[identity] - self._parts[identity]
