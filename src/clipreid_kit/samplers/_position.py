"""Position of a sampler: its epoch, and the batch that the next iteration begins with."""

from clipreid_kit._checks import check_integer, fail


class Position:
    """Position inside an epoch, from which a sampler resumes.

    Attributes:
        epoch: The epoch that the next iteration yields.
        num_yielded: Batches of the epoch that were yielded, or skipped.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.num_yielded = 0
        self._start_batch = 0

    def set(self, owner: str, epoch: int, start_batch: int, num_batches: int) -> None:
        """Move to a batch of an epoch.

        Raises:
            ValueError: If the epoch is negative, or has no such batch.
        """
        check_integer(owner, "epoch", epoch, 0)
        check_integer(owner, "start_batch", start_batch, 0)
        if start_batch > num_batches:
            raise fail(owner, f"start_batch in [0, {num_batches}]", start_batch)

        self.epoch = epoch
        self.num_yielded = start_batch
        self._start_batch = start_batch

    def begin_iteration(self) -> int:
        """Return the batch that this iteration begins with; the next one begins with batch 0."""
        start_batch = self._start_batch
        self.num_yielded = start_batch
        self._start_batch = 0
        return start_batch
