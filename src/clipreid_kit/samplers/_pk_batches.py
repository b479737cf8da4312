"""PK batches of any epoch, from any batch on; the samplers that yield them hold the position."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from clipreid_kit.samplers._fingerprint import data_checksum
from clipreid_kit.samplers._integers import IntArray, Integers
from clipreid_kit.samplers._pk_epoch import PKEpoch
from clipreid_kit.samplers._rows_by_identity import IfTooFew, group_rows

Coverage = Literal["identities", "images"]

BATCHES_VERSION = 2  # raised when a seed gives other batches than before
CHUNK = 64  # batches looked up at once; it does not affect their contents


class PKBatches:
    """Batches of P identities with K rows each; see ``PKSampler``, whose options they take.

    Args:
        owner: Name of the sampler, for error texts.
        labels: Identity of each row.
        num_identities: P, on each rank.
        num_instances: K.
        seed: Seed.
        coverage: What one epoch covers.
        if_too_few: What to do with an identity of fewer than K rows.
        cameras: Camera of each row, or ``None``.
        images: Image of each row, or ``None`` if all differ.
        rank: Rank of this process.
        world_size: Number of processes.
        items: What a row is called in error texts.

    Attributes:
        rows: The rows of each identity.
        settings: What the batches of an epoch depend on, besides the rank.
    """

    def __init__(
        self,
        owner: str,
        labels: Integers,
        num_identities: int,
        num_instances: int,
        *,
        seed: int,
        coverage: Coverage,
        if_too_few: IfTooFew,
        cameras: Integers | None,
        images: Integers | None,
        rank: int,
        world_size: int,
        items: str = "images",
    ) -> None:
        self.rows = group_rows(
            owner,
            labels,
            cameras,
            num_identities=num_identities,
            num_instances=num_instances,
            if_too_few=if_too_few,
            seed=seed,
            rank=rank,
            world_size=world_size,
            images=images,
            items=items,
        )
        self.settings: dict[str, int | str] = {
            "num_identities": num_identities,
            "num_instances": num_instances,
            "seed": seed,
            "coverage": coverage,
            "if_too_few": if_too_few,
            "world_size": world_size,
            "data": data_checksum(self.rows, start=BATCHES_VERSION),
        }

        self._num_identities = num_identities
        self._seed = seed
        self._covers_images = coverage == "images"
        self._rank = rank
        self._world_size = world_size

        num_rows = self.rows.num_rows
        self._parts = parts_of_identities(
            num_rows, num_instances, covers_images=self._covers_images
        )
        self._num_batches = count_batches(self._parts, num_identities * world_size)

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return self._num_batches

    def of_epoch(self, epoch: int, start_batch: int) -> Iterator[list[int]]:
        """Yield the batches of an epoch, from one of them on, each a list of P x K rows."""
        batches = PKEpoch(
            self.rows,
            self._parts,
            len(self),
            self._num_identities,
            seed=self._seed,
            epoch=epoch,
            rank=self._rank,
            world_size=self._world_size,
            covers_images=self._covers_images,
        )
        for begin in range(start_batch, len(self), CHUNK):
            yield from batches.batches(begin, min(begin + CHUNK, len(self)))


def parts_of_identities(num_rows: IntArray, num_instances: int, *, covers_images: bool) -> IntArray:
    """Number of batches that each identity is in: one, or as many as all its rows need."""
    if not covers_images:
        return np.ones_like(num_rows)
    return -(-num_rows // num_instances)


def count_batches(parts: IntArray, step_size: int) -> int:
    """Number of batches of an epoch.

    Args:
        parts: Number of batches that each identity is in.
        step_size: Identities of a step, on all ranks.
    """
    num_full_steps = -(-int(parts.sum()) // step_size)

    # At least the parts of the largest identity: no two of them may meet in a batch.
    return max(num_full_steps, int(parts.max()))
