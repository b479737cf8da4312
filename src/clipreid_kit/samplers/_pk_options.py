"""Options that the PK samplers share, checked once."""

from dataclasses import dataclass
from typing import Literal

from clipreid_kit._checks import check_choice, check_integer, fail

Coverage = Literal["identities", "images"]
IfTooFew = Literal["repeat", "drop", "error"]


@dataclass(frozen=True, kw_only=True)
class PKOptions:
    """Options of batches of P identities with K rows each; ``PKSampler`` describes them.

    Attributes:
        owner: Name of the sampler, for error texts.
        num_identities: P, on each rank.
        num_instances: K.
        seed: Seed.
        coverage: What one epoch covers.
        if_too_few: What to do with an identity of fewer than K rows.
        rank: Rank of this process.
        world_size: Number of processes.
        items: What a row is called in error texts.

    Raises:
        ValueError: If an option is out of its range.
    """

    owner: str
    num_identities: int
    num_instances: int
    seed: int
    coverage: Coverage
    if_too_few: IfTooFew
    rank: int
    world_size: int
    items: str = "images"

    def __post_init__(self) -> None:
        check_choice(self.owner, "coverage", self.coverage, ("identities", "images"))
        check_choice(self.owner, "if_too_few", self.if_too_few, ("repeat", "drop", "error"))
        check_integer(self.owner, "num_identities", self.num_identities, 1)
        check_integer(self.owner, "num_instances", self.num_instances, 1)
        check_integer(self.owner, "seed", self.seed, 0)
        check_integer(self.owner, "world_size", self.world_size, 1)
        check_integer(self.owner, "rank", self.rank, 0)
        if self.rank >= self.world_size:
            raise fail(self.owner, f"rank in [0, world_size = {self.world_size})", self.rank)

    @property
    def step_size(self) -> int:
        """Identities of a step, on all ranks."""
        return self.num_identities * self.world_size

    @property
    def covers_images(self) -> bool:
        """Whether an epoch shows every row at least once."""
        return self.coverage == "images"

    def settings(self, data: int) -> dict[str, int | str]:
        """Options that the batches of an epoch depend on, besides the rank: for a sampler's state.

        Args:
            data: Checksum of the columns.
        """
        return {
            "num_identities": self.num_identities,
            "num_instances": self.num_instances,
            "seed": self.seed,
            "coverage": self.coverage,
            "if_too_few": self.if_too_few,
            "world_size": self.world_size,
            "data": data,
        }
