"""PK batches of any epoch, from any batch on; the samplers that yield them hold the position."""

from collections.abc import Iterator

import numpy as np

from clipreid_kit.samplers._fingerprint import data_checksum
from clipreid_kit.samplers._integers import IntArray, Integers
from clipreid_kit.samplers._pk_epoch import PKEpoch
from clipreid_kit.samplers._pk_options import PKOptions
from clipreid_kit.samplers._rows_by_identity import group_rows

BATCHES_VERSION = 2  # raised when a seed gives other batches than before
CHUNK = 64  # batches looked up at once; it does not affect their contents


class PKBatches:
    """Batches of P identities with K rows each; ``PKSampler`` says which.

    Args:
        labels: Identity of each row.
        cameras: Camera of each row, or ``None``.
        images: Image of each row, or ``None`` if all differ.
        options: Options of the sampler.

    Attributes:
        rows: The rows of each identity.
        settings: What the batches of an epoch depend on, besides the rank.
    """

    def __init__(
        self,
        labels: Integers,
        cameras: Integers | None,
        images: Integers | None,
        options: PKOptions,
    ) -> None:
        self.rows = group_rows(labels, cameras, images, options)
        self.settings = options.settings(data_checksum(self.rows, start=BATCHES_VERSION))

        self._options = options
        self._parts = parts_of_identities(self.rows.num_rows, options)
        self._num_batches = count_batches(self._parts, options.step_size)

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return self._num_batches

    def of_epoch(self, epoch: int, start_batch: int) -> Iterator[list[int]]:
        """Yield the batches of an epoch, from one of them on, each a list of P x K rows."""
        batches = PKEpoch(self.rows, self._parts, len(self), self._options, epoch=epoch)
        for begin in range(start_batch, len(self), CHUNK):
            yield from batches.batches(begin, min(begin + CHUNK, len(self)))


def parts_of_identities(num_rows: IntArray, options: PKOptions) -> IntArray:
    """Number of batches that each identity is in: one, or as many as all its rows need."""
    if not options.covers_images:
        return np.ones_like(num_rows)
    return -(-num_rows // options.num_instances)


def count_batches(parts: IntArray, step_size: int) -> int:
    """Number of batches of an epoch.

    Args:
        parts: Number of batches that each identity is in.
        step_size: Identities of a step, on all ranks.
    """
    num_full_steps = -(-int(parts.sum()) // step_size)

    # At least the parts of the largest identity: no two of them may meet in a batch.
    return max(num_full_steps, int(parts.max()))
