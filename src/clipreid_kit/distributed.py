r"""Gather rows from all ranks, with gradient.

Every loss of this library follows one convention. Each of the :math:`R` ranks gathers the
embeddings and labels of all ranks, computes the loss of the *whole* batch, and lets DDP average the
gradients of the parameters. The backward pass of :func:`gather` sums, over the ranks, the gradients
of a rank's own rows. So rank :math:`r` has the gradient :math:`R \cdot \partial L / \partial z_r`,
DDP divides by :math:`R`, and the parameters get exactly the gradient of one process with the
concatenated batch. The ranks may hold different numbers of rows.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clipreid_kit._checks import check_dense, describe, fail

_MAX_DIMS = 8
_DTYPES = sorted(
    {value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str
)


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
        ValueError: If ``rows`` has no dimension to concatenate along, or its dtype or its other
            dimensions differ between the ranks; on every rank, so that none waits for ever.

    Example:
        >>> gather(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    gathered: Tensor
    (gathered,) = gather_batch("gather", rows)
    return gathered


def gather_batch(
    owner: str,
    *tensors: Tensor | None,
    options: Sequence[object] = (),
    error: ValueError | None = None,
) -> tuple[Any, ...]:
    """Gather the tensors of a batch, after all ranks have agreed on what they send.

    Args:
        owner: Name of the caller, for error messages.
        tensors: Rows (n, ...) of this rank; ``None`` on every rank stays ``None``.
        options: What else has to be equal on all ranks.
        error: An error of this rank. It is raised on every rank, and not here alone.

    Raises:
        ValueError: As :func:`gather` does; and if a tensor is ``None`` on some ranks only, if the
            options differ, or if a rank has an error. Every rank raises it.
    """
    error = error or _error_of_rows(owner, tensors)
    if world_size() == 1:
        if error is not None:
            raise error
        return tensors

    headers = _exchange_headers(tensors, options, error)
    if any(of_rank[0][0] for of_rank in headers):
        _raise_errors_of_ranks(error)
    if len({of_rank[0][1] for of_rank in headers}) > 1:
        raise ValueError(
            f"{owner}: its options differ between the ranks (here: {options}). "
            "Construct it alike on every rank."
        )

    gathered = []
    for number, tensor in enumerate(tensors, start=1):
        of_ranks = []
        for of_rank in headers:
            num_rows, needs_gradient, *kind = of_rank[number]
            of_ranks.append(_RowsHeader(num_rows, needs_gradient, tuple(kind)))

        _check_rows_agree(owner, of_ranks)
        gathered.append(None if tensor is None else _gather_rows(tensor, of_ranks))

    return tuple(gathered)


@contextmanager
def errors_on_all_ranks(owner: str, num_tensors: int, *, distributed: bool) -> Iterator[None]:
    """Raise a ValueError of the block on every rank, if ``distributed``.

    The other ranks raise it in their next :func:`gather_batch`, of ``num_tensors`` tensors.
    """
    try:
        yield
    except ValueError as error:
        if distributed:
            gather_batch(owner, *[None] * num_tensors, error=error)
        raise


class _RowsHeader(NamedTuple):
    """Description of a rank's rows, sent to the others.

    Attributes:
        num_rows: Size of the first dimension; -1 for ``None`` instead of rows.
        needs_gradient: Whether autograd will ask for a gradient.
        kind: Dtype, number of dimensions, and sizes of all but the first; equal on all ranks.
    """

    num_rows: int
    needs_gradient: int
    kind: tuple[int, ...]

    def __str__(self) -> str:
        if self.num_rows < 0:
            return "None"

        dtype, num_dims, *sizes = self.kind
        shape = ", ".join(["n", *map(str, sizes[: num_dims - 1])])
        return f"{str(_DTYPES[dtype]).removeprefix('torch.')} ({shape})"


def _error_of_rows(owner: str, tensors: Sequence[object]) -> ValueError | None:
    """Error of rows that cannot be sent."""
    for tensor in tensors:
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            return fail(owner, "rows as a tensor", type(tensor).__name__, "Use torch.as_tensor.")

        try:
            check_dense(owner, "rows", tensor)
        except ValueError as error:
            return error

        if tensor.ndim == 0:
            return fail(owner, "a tensor with rows", "a scalar", "Add a dimension: rows[None].")
        if tensor.ndim > _MAX_DIMS:
            return fail(owner, f"rows of at most {_MAX_DIMS} dimensions", describe(tensor))

    return None


def _exchange_headers(
    tensors: Sequence[Tensor | None], options: Sequence[object], error: ValueError | None
) -> list[list[list[int]]]:
    """Headers of all ranks: one of the rank itself (error, options), and one of each tensor."""
    padding = [0] * (_MAX_DIMS + 1)
    has_error = int(error is not None)
    checksum = zlib.crc32(repr(options).encode())

    lines = [[has_error, checksum, *padding]]
    lines += [_header(None if has_error else tensor) for tensor in tensors]

    own_header = torch.tensor(lines, device=_device_for(tensors, error))
    headers = [torch.empty_like(own_header) for _ in range(world_size())]
    dist.all_gather(headers, own_header)
    return [header.tolist() for header in headers]


def _header(tensor: Tensor | None) -> list[int]:
    """Number of rows, need of a gradient, dtype, number of dimensions, and sizes."""
    if tensor is None:
        return [-1, *[0] * (_MAX_DIMS + 2)]

    needs_gradient = tensor.requires_grad and torch.is_grad_enabled()
    sizes = [*tensor.shape[1:], *[-1] * (_MAX_DIMS - tensor.ndim)]
    dtype = _DTYPES.index(tensor.dtype)
    return [tensor.shape[0], int(needs_gradient), dtype, tensor.ndim, *sizes]


def _device_for(tensors: Sequence[Tensor | None], error: ValueError | None) -> torch.device:
    """Device of the rows; without any, one that the process group can send from."""
    for tensor in tensors:
        if error is None and tensor is not None:
            return tensor.device
    return communication_device()


def communication_device() -> torch.device:
    """Return a device that tensors can be sent from."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _raise_errors_of_ranks(error: ValueError | None) -> NoReturn:
    """Raise the first error of any rank on every rank."""
    texts: list[str] = [""] * world_size()
    dist.all_gather_object(texts, "" if error is None else str(error))

    rank = next(rank for rank, text in enumerate(texts) if text)
    raise ValueError(f"{texts[rank]} (on rank {rank})") from error


def _check_rows_agree(owner: str, of_ranks: Sequence[_RowsHeader]) -> None:
    """Require rows of one dtype and shape on all ranks, or none on any."""
    kinds = {(header.num_rows < 0, header.kind) for header in of_ranks}
    if len(kinds) == 1:
        return

    got = ", ".join(f"{header} on rank {rank}" for rank, header in enumerate(of_ranks))
    raise fail(owner, "rows of one dtype and shape on all ranks, besides their number n", got)


def _gather_rows(rows: Tensor, of_ranks: Sequence[_RowsHeader]) -> Tensor:
    # A rank without a gradient has to take part in the backward pass of the others.
    is_needed = any(header.needs_gradient for header in of_ranks)
    if is_needed and torch.is_grad_enabled() and not rows.requires_grad:
        rows = rows.detach().requires_grad_()

    gathered: Tensor = _Gather.apply(
        rows, [header.num_rows for header in of_ranks], dist.get_rank()
    )
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

    # Written past the check of options that are fixed: they get their values back.
    every_part = [vars(part) for part in module.modules()]
    gathering = [attributes for attributes in every_part if attributes.get("distributed") is True]

    for attributes in gathering:
        attributes["distributed"] = False

    try:
        yield
    finally:
        for attributes in gathering:
            attributes["distributed"] = True
