"""Position of a sampler: its epoch, and the batch that the next iteration begins with."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.samplers._fingerprint import check_state


class Position:
    """Position inside an epoch, from which a sampler resumes.

    Args:
        owner: Name of the sampler, for error texts.
        num_batches: Batches of an epoch.
        settings: What the batches of an epoch depend on, besides the rank. A state holds them, and
            the state of a sampler with others is refused.

    Attributes:
        epoch: The epoch that the next iteration yields.
    """

    def __init__(self, owner: str, num_batches: int, settings: Mapping[str, object]) -> None:
        self.epoch = 0
        self._owner = owner
        self._num_batches = num_batches
        self._settings = dict(settings)
        self._num_yielded = 0
        self._start_batch = 0

    def set(self, epoch: int, start_batch: int = 0) -> None:
        """Move to a batch of an epoch.

        Raises:
            ValueError: If the epoch is negative, or has no such batch.
        """
        owner = f"{self._owner}.set_epoch"
        check_integer(owner, "epoch", epoch, 0)
        check_integer(owner, "start_batch", start_batch, 0)
        if start_batch > self._num_batches:
            raise fail(owner, f"start_batch in [0, {self._num_batches}]", start_batch)

        self.epoch = epoch
        self._num_yielded = start_batch
        self._start_batch = start_batch

    def iterate(self, batches_of: Callable[[int, int], Iterable[list[int]]]) -> Iterator[list[int]]:
        """Yield the remaining batches of the epoch, and count them; the next iteration yields all.

        Args:
            batches_of: The batches of an epoch (first argument) from a batch (second) on.
        """
        start_batch = self._start_batch
        self._num_yielded = start_batch
        self._start_batch = 0

        batches = batches_of(self.epoch, start_batch)
        for number, batch in enumerate(batches, start=start_batch + 1):
            self._num_yielded = number
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of its batches yielded or skipped, and the settings."""
        return {"epoch": self.epoch, "batches": self._num_yielded, **deepcopy(self._settings)}

    def check_state(self, state: object, *further: str) -> None:
        """Require a state of a sampler with the same settings.

        Args:
            state: The state.
            further: Names of the entries that it needs beside epoch and batches.

        Raises:
            ValueError: If an entry is missing or the settings differ.
        """
        entries = ("epoch", "batches", *further)
        check_state(f"{self._owner}.load_state_dict", state, self._settings, entries)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to where :meth:`state_dict` was taken.

        Raises:
            ValueError: If the state is of a sampler with other settings.
        """
        self.check_state(state)
        self.set(state["epoch"], state["batches"])
