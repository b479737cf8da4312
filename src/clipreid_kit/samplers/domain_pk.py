"""PK batches with a fixed share of identities of each domain."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
from torch.utils.data import Sampler

from clipreid_kit._checks import check_number, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.samplers._integers import (
    IntArray,
    Integers,
    read_column,
    read_labels,
    read_optional_column,
    take_rows,
)
from clipreid_kit.samplers._loader_conventions import EpochSetter, warn_if_sharded_twice
from clipreid_kit.samplers._pk_batches import PKBatches
from clipreid_kit.samplers._pk_options import IfTooFew, PKOptions
from clipreid_kit.samplers._position import Position

_OWNER = "DomainPKSampler"


@fixed_options(not_kept=("labels", "domains", "cameras", "images"))
class DomainPKSampler(Sampler[list[int]]):
    """Batch sampler of P identities with K images each, in fixed shares of several domains.

    Use it to train on several data sets at once: batches of :class:`PKSampler` would show a large
    data set more often than a small one. Each domain has a :class:`PKSampler` of its own; a batch
    is one of its batches from each domain, in the order of the domains' numbers. An epoch ends when
    every domain is covered; the batches of a smaller one go on with its next epochs meanwhile.

    Args:
        labels: Identity of each row of the data set: integers, at least one.
        domains: Domain of each row: integers, as :func:`domain_numbers` returns them.
        num_identities: P, on each rank; at least the number of domains.
        num_instances: K >= 1; metric losses need K >= 2.
        shares: Share of each domain in the identities of a batch, in the order of the domains'
            numbers: positive numbers, of which only the ratios count. P is dealt by them, with at
            least one identity of each domain; what rounding leaves goes to the largest remainders.
            ``None`` for equal shares.
        seed: As of :class:`PKSampler`.
        coverage: What an epoch covers of every domain, as of :class:`PKSampler`.
        if_too_few: As of :class:`PKSampler`.
        cameras: As of :class:`PKSampler`.
        images: As of :class:`PKSampler`.
        rank: As of :class:`PKSampler`.
        world_size: As of :class:`PKSampler`.

    Attributes:
        epoch: The epoch that the next iteration yields; see :meth:`set_epoch`.
        identities_of_domain: Identities of each domain in a batch, in the order of their numbers.

    Raises:
        ValueError: If an identity is in two domains, there are more domains than ``num_identities``
            or shares of another number, or a domain has fewer identities than a step needs; and as
            :class:`PKSampler`.

    Example:
        >>> labels = [0, 0, 1, 1, 2, 2, 7, 7, 8, 8]
        >>> domains = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
        >>> sampler = DomainPKSampler(labels, domains, num_identities=3, num_instances=2,
        ...     shares=(2, 1))
        >>> sampler.identities_of_domain, len(sampler)
        ([2, 1], 2)
        >>> [[domains[row] for row in batch] for batch in sampler]
        [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]]
    """

    num_identities: Final[int]
    num_instances: Final[int]
    shares: Final[tuple[float, ...] | None]
    seed: Final[int]
    coverage: Final[Literal["identities", "images"]]
    if_too_few: Final[IfTooFew]
    rank: Final[int]
    world_size: Final[int]

    def __init__(
        self,
        labels: Integers,
        domains: Integers,
        num_identities: int = 16,
        num_instances: int = 4,
        *,
        shares: Sequence[float] | None = None,
        seed: int = 0,
        coverage: Literal["identities", "images"] = "identities",
        if_too_few: IfTooFew = "repeat",
        cameras: Integers | None = None,
        images: Integers | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        options = PKOptions(
            owner=_OWNER,
            num_identities=num_identities,
            num_instances=num_instances,
            seed=seed,
            coverage=coverage,
            if_too_few=if_too_few,
            rank=rank,
            world_size=world_size,
        )

        label_of_row = read_labels(_OWNER, labels)
        num_rows = label_of_row.size
        domain_of_row = read_column(_OWNER, "domains", domains, num_rows)
        _check_one_domain_each(label_of_row, domain_of_row)
        camera_of_row = read_optional_column(_OWNER, "cameras", cameras, num_rows)
        image_of_row = read_optional_column(_OWNER, "images", images, num_rows)
        numbers = np.unique(domain_of_row)

        self.num_identities = num_identities
        self.num_instances = num_instances
        self.shares = None if shares is None else tuple(shares)
        self.seed = seed
        self.coverage = coverage
        self.if_too_few = if_too_few
        self.rank = rank
        self.world_size = world_size
        self._identities_of_domain = _deal_identities(num_identities, len(numbers), self.shares)

        self._rows: list[IntArray] = []
        self._domains: list[PKBatches] = []
        for number, count in zip(numbers, self._identities_of_domain, strict=True):
            rows = np.flatnonzero(domain_of_row == number)
            batches = PKBatches(
                label_of_row[rows],
                take_rows(camera_of_row, rows),
                take_rows(image_of_row, rows),
                replace(options, owner=f"{_OWNER}, domain {number}", num_identities=count),
            )
            self._rows.append(rows)
            self._domains.append(batches)

        self._position = Position(_OWNER, len(self), self._settings(domain_of_row))

    @property
    def identities_of_domain(self) -> list[int]:
        """Identities of each domain in a batch, in the order of the domains' numbers."""
        return list(self._identities_of_domain)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration yields."""
        return self._position.epoch

    @property
    def sampler(self) -> EpochSetter:
        """Object through which Lightning and Accelerate set the epoch."""
        return EpochSetter(self.set_epoch)

    def __len__(self) -> int:
        """Number of batches of an epoch: that of the domain with the most."""
        return max(len(domain) for domain in self._domains)

    def __repr__(self) -> str:
        """Sizes and options, on one line."""
        return (
            f"{_OWNER}({len(self._domains)} domains, {len(self)} batches, "
            f"identities_of_domain={self.identities_of_domain}, "
            f"num_instances={self.num_instances}, seed={self.seed}, coverage={self.coverage!r}, "
            f"rank={self.rank}, world_size={self.world_size}, epoch={self.epoch})"
        )

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
        """Return the epoch, the number of batches yielded, and what they depend on.

        A loader with workers requests batches before they are used: there, count the batches you
        trained on, and pass them to :meth:`set_epoch`.
        """
        return self._position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken, on any rank, with the remaining batches.

        Args:
            state: The state.

        Raises:
            ValueError: If the state is of a sampler with other data or options.
        """
        self._position.load_state_dict(state)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, each a list of P x K row indices."""
        warn_if_sharded_twice(_OWNER, self.world_size)
        yield from self._position.iterate(self._batches)

    def _settings(self, domain_of_row: IntArray) -> dict[str, object]:
        """Options that the batches of an epoch depend on, besides the rank."""
        checksum = zlib.crc32(domain_of_row.astype(np.int64).tobytes())
        return {
            "identities_of_domain": list(self._identities_of_domain),
            "num_instances": self.num_instances,
            "seed": self.seed,
            "coverage": self.coverage,
            "if_too_few": self.if_too_few,
            "world_size": self.world_size,
            "data": [checksum, *(domain.settings["data"] for domain in self._domains)],
        }

    def _batches(self, epoch: int, start_batch: int) -> Iterator[list[int]]:
        """Yield the batches of an epoch, from one of them on."""
        parts = [
            self._batches_of(domain, epoch, start_batch) for domain in range(len(self._domains))
        ]
        for _ in range(start_batch, len(self)):
            yield [row for part in parts for row in next(part)]

    def _batches_of(self, domain: int, epoch: int, start_batch: int) -> Iterator[list[int]]:
        """Batches of one domain from a batch of an epoch on, without an end."""
        batches = self._domains[domain]
        rows = self._rows[domain]

        # An epoch takes a whole number of the domain's own ones.
        own_epochs = -(-len(self) // len(batches))
        own_epoch, own_batch = divmod(start_batch, len(batches))
        own_epoch += epoch * own_epochs

        while True:
            for batch in batches.of_epoch(own_epoch, own_batch):
                yield rows[batch].tolist()
            own_epoch += 1
            own_batch = 0


def _check_one_domain_each(labels: IntArray, domains: IntArray) -> None:
    """Require each identity to be in one domain."""
    pairs = np.unique(np.stack([labels, domains]), axis=1)
    identity, count = np.unique(pairs[0], return_counts=True)
    if (count > 1).any():
        raise ValueError(
            f"{_OWNER}: {(count > 1).sum()} identities are in several domains, the first "
            f"{identity[count > 1][0]}. Keep them apart, as join_domains does."
        )


def _deal_identities(
    num_identities: int, num_domains: int, shares: Sequence[float] | None
) -> list[int]:
    """Identities of each domain in a batch: largest remainders, at least one each."""
    shares = [1.0] * num_domains if shares is None else list(shares)
    _check_shares(shares, num_domains)
    if num_identities < num_domains:
        raise ValueError(
            f"{_OWNER}: num_identities is {num_identities}, and each of the {num_domains} domains "
            f"needs one identity in a batch. Set it to {num_domains} or more."
        )

    # Each domain has one identity; the others are dealt by what its share is above one.
    num_free = num_identities - num_domains
    above_one = [max(0.0, num_identities * share / sum(shares) - 1) for share in shares]
    scale = num_free / sum(above_one) if sum(above_one) else 0.0

    exact = [value * scale for value in above_one]
    dealt = [int(value + 1e-9) for value in exact]

    # What rounding down has left over goes to the largest remainders, then to the first domains.
    num_left = num_free - sum(dealt)
    by_remainder = sorted(range(num_domains), key=lambda domain: dealt[domain] - exact[domain])
    for domain in by_remainder[:num_left]:
        dealt[domain] += 1

    return [1 + count for count in dealt]


def _check_shares(shares: Sequence[float], num_domains: int) -> None:
    """Require a share above 0 for each domain."""
    if len(shares) != num_domains:
        raise fail(_OWNER, f"{num_domains} shares, one for each domain", len(shares))

    for share in shares:
        check_number(_OWNER, "each share", share)
        if not 0 < share < float("inf"):
            raise fail(_OWNER, "each share > 0", share)
