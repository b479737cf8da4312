r"""Gather rows from all ranks, with gradient.

Every loss of this library follows one convention. Each of the :math:`R` ranks gathers the
embeddings and labels of all ranks, computes the loss of the *whole* batch, and lets DDP average the
gradients of the parameters. The backward pass of :func:`gather` sums, over the ranks, the gradients
of a rank's own rows. So rank :math:`r` has the gradient :math:`R \cdot \partial L / \partial z_r`,
DDP divides by :math:`R`, and the parameters get exactly the gradient of one process with the
concatenated batch. The ranks may hold different numbers of rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def world_size() -> int:
    """Number of ranks; 1 if no process group is initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return 1


def gather(rows: Tensor) -> Tensor:
    """Concatenate the rows of all ranks in rank order, with gradient.

    Call it before any loss that should see the whole batch: ``loss(gather(embeddings),
    gather(labels))``. Every rank has to call it, with the same width and dtype; the numbers of rows
    may differ. Without a process group it returns ``rows`` itself.

    Args:
        rows: Tensor (n, ...) of this rank, n >= 0.

    Returns:
        Tensor (sum of all n, ...), equal on every rank.

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

    num_rows = torch.tensor([rows.shape[0]], device=rows.device)
    num_rows_of_ranks = [torch.empty_like(num_rows) for _ in range(world_size())]
    dist.all_gather(num_rows_of_ranks, num_rows)

    sizes = [int(size) for size in num_rows_of_ranks]
    gathered: Tensor = _Gather.apply(rows, sizes, dist.get_rank())
    return gathered


class _Gather(torch.autograd.Function):
    """All-gather of rows whose backward pass sums the gradients of all ranks."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        rows: Tensor,
        sizes: list[int],
        rank: int,
    ) -> Tensor:
        ctx.sizes = sizes
        ctx.rank = rank

        # all_gather needs equal shapes, so every rank sends as many rows as the longest one.
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: rows.shape[0]] = rows
        padded_parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(padded_parts, padded)

        parts = [part[:size] for part, size in zip(padded_parts, sizes, strict=True)]
        return torch.cat(parts)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (torch's own context)
        *gradients: Tensor,
    ) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)

        start = sum(ctx.sizes[: ctx.rank])
        stop = start + ctx.sizes[ctx.rank]
        return gradient[start:stop], None, None


@contextmanager
def local_losses(module: nn.Module) -> Iterator[None]:
    """Let every loss in a module see only this process's rows, until the block ends.

    Use it when one process computes a loss and the others do not, for example on a validation
    split: a loss with ``distributed=True`` would wait for their rows for ever.

    Inside the block, call the module itself: DDP's wrapper would wait to send its buffers.

    Args:
        module: A loss, or any module that contains losses of this library.

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
            "local_losses: the module is wrapped by DistributedDataParallel. "
            "Pass model.module, and call that inside the block."
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
