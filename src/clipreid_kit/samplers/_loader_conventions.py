"""Conventions of Lightning and Accelerate for batch samplers, and warnings where these mislead."""

import warnings
from collections.abc import Callable

from clipreid_kit._callers import find_caller, stacklevel_of_user


class EpochSetter:
    """The ``sampler`` of a batch sampler, through which other libraries set its epoch.

    Lightning, and Accelerate on several processes, call ``set_epoch`` on the sampler inside a batch
    sampler, and on nothing else. A batch sampler that has no other inside offers this one.
    """

    def __init__(self, set_epoch: Callable[[int], None]) -> None:
        self._set_epoch = set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the batch sampler."""
        self._set_epoch(epoch)


def warn_if_sharded_twice(owner: str, world_size: int) -> None:
    """Warn once if Accelerate shares out batches that the sampler has shared out already."""
    if world_size == 1:
        return

    shard = find_caller("accelerate", "BatchSamplerShard")
    if shard is None or getattr(shard, "num_processes", 1) == 1:
        return

    warnings.warn(
        f"{owner}: the batches are shared out twice, by world_size={world_size} and by "
        "accelerator.prepare, so an epoch has only a part of them. Either leave rank and "
        "world_size at their defaults, or do not prepare the loader.",
        UserWarning,
        stacklevel=stacklevel_of_user(),
    )
