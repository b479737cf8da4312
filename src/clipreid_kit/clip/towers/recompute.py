"""Run a block with or without recomputing its activations in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_block(
    block: Callable[[Tensor], Tensor],
    x: Tensor,
    recompute: bool,
    batch_norm_owner: nn.Module | None = None,
) -> Tensor:
    """Run a block, and discard its activations if they are to be recomputed in the backward pass.

    Args:
        block: The block to run.
        x: Its input.
        recompute: Whether to recompute the activations in the backward pass instead of keeping
            them.
        batch_norm_owner: Module that contains the block and its BatchNorms, which must not count a
            batch twice. ``None`` if the block has no BatchNorm.

    Returns:
        The output of the block. Values, gradients and running statistics equal those of a plain
        call.
    """
    if not recompute:
        return block(x)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        if batch_norm_owner is None:
            return nullcontext(), nullcontext()
        return nullcontext(), _running_statistics_kept(batch_norm_owner)

    out: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return out


@contextmanager
def _running_statistics_kept(owner: nn.Module) -> Iterator[None]:
    """Keep the running statistics of every BatchNorm inside ``owner`` as they are."""
    norms = [
        module
        for module in owner.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]

    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None

    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, saved, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = num_batches
