r"""One gather with gradient, and the convention that every loss here follows.

On :math:`R` ranks each rank gathers the embeddings and labels of all ranks, computes the loss of the *whole* batch,
and lets DDP average the parameter gradients. The backward pass of :func:`gather` sums, over the ranks, the gradients
that arrived for a rank's own rows. So rank :math:`r` sees :math:`R \cdot \partial L / \partial z_r`, DDP divides by
:math:`R`, and the parameters get exactly the gradient of one process with the concatenated batch. Ranks may hold
different numbers of rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int], rank: int) -> Tensor:  # noqa: ANN401 (torch's own context)
        ctx.sizes, ctx.rank = sizes, rank
        longest = max(sizes)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: rows.shape[0]] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 (torch's own context)
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        start = sum(ctx.sizes[: ctx.rank])
        return gradient[start : start + ctx.sizes[ctx.rank]], None, None


def world_size() -> int:
    """Number of ranks, 1 where no process group runs."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(rows: Tensor) -> Tensor:
    """Concatenate the rows of all ranks, in rank order, with gradient (convention: see the module).

    Use it before any loss that should see the global batch: ``loss(gather(embeddings), gather(labels))``. Every
    rank has to call it, with the same width and dtype; the numbers of rows may differ. Without a process group it
    returns ``rows`` itself.

    Args:
        rows: Tensor (n, ...) of this rank, n >= 0.

    Returns:
        Tensor (n of all ranks, ...), equal on every rank.

    Raises:
        ValueError: If ``rows`` has no dimension to concatenate along.

    Example:
        >>> gather(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    if rows.ndim == 0:
        raise ValueError(
            "gather: expected a tensor with rows, got a scalar. Add a dimension: rows[None]."
        )
    if world_size() == 1:
        return rows
    size = torch.tensor([rows.shape[0]], device=rows.device)
    sizes = [torch.empty_like(size) for _ in range(world_size())]
    dist.all_gather(sizes, size)
    gathered: Tensor = _Gather.apply(rows, [int(s) for s in sizes], dist.get_rank())
    return gathered


@contextmanager
def local_losses(module: nn.Module) -> Iterator[None]:
    """Let every loss in a module see the rows of this process only, until the block ends.

    Use it where one process computes a loss and the others do not, such as on a validation split: a loss with
    ``distributed=True`` would wait for their rows for ever.

    Call the module itself in the block: DDP's wrapper would wait to send its buffers.

    Args:
        module: A loss, or anything that holds losses of this library.

    Raises:
        ValueError: If the module is wrapped by ``DistributedDataParallel``.

    Example:
        >>> from clipreid_kit import SupConLoss
        >>> loss = SupConLoss(distributed=True)
        >>> with local_losses(loss):
        ...     loss.distributed
        False
        >>> loss.distributed
        True
    """
    if any(isinstance(part, DistributedDataParallel) for part in module.modules()):
        raise ValueError(
            "alone: expected the module itself, got one that DDP wraps. Give model.module, and call that."
        )
    gathering: list[Any] = [
        part for part in module.modules() if getattr(part, "distributed", False) is True
    ]
    for part in gathering:
        part.distributed = False
    try:
        yield
    finally:
        for part in gathering:
            part.distributed = True
