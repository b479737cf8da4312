"""Contrast with the rows of earlier batches (XBM)."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_embeddings,
    check_integer,
    check_labels,
    describe,
    fail,
)
from clipreid_kit.distributed import gather


class EmbeddingQueue(nn.Module):
    """The last ``size`` embeddings with their labels, first in, first out; they are buffers, saved with the state.

    The building block of :class:`CrossBatchMemory`, for losses of your own that need rows of earlier batches. Rows are
    kept without graph, as they were: nothing normalises them.

    Args:
        dim: Width D of the embeddings.
        size: Rows to keep, at least 1.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> queue = EmbeddingQueue(dim=2, size=3)
        >>> queue.enqueue(torch.eye(2), torch.tensor([4, 5]))
        >>> queue.enqueue(torch.ones(2, 2), torch.tensor([6, 7]))
        >>> queue.labels()  # the oldest row has left
        tensor([5, 6, 7])
    """

    stored_rows: Tensor
    stored_labels: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        check_integer("EmbeddingQueue", "dim", dim, 1)
        check_integer("EmbeddingQueue", "size", size, 1)
        self.size = size
        self.num_rows = 0  # a Python number: no wait for the device to learn it
        self.register_buffer("stored_rows", torch.zeros(size, dim))
        self.register_buffer("stored_labels", torch.zeros(size, dtype=torch.long))

    def rows(self) -> Float[Tensor, "m d"]:
        """The rows held, oldest first; (0, D) while empty. Later calls of ``enqueue`` do not change what came back."""
        return self.stored_rows[self.size - self.num_rows :]

    def labels(self) -> Integer[Tensor, " m"]:
        """Their labels, in the same order."""
        return self.stored_labels[self.size - self.num_rows :]

    @torch.no_grad()
    def enqueue(self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]) -> None:
        """Add rows behind those held, and drop the oldest beyond ``size``.

        Args:
            embeddings: Rows of any number; of more than ``size`` the last are kept.
            labels: Identity of each row.

        Raises:
            ValueError: If shapes or devices disagree with the queue.
        """
        check_embeddings("EmbeddingQueue", "embeddings", embeddings)
        check_labels("EmbeddingQueue", "labels", labels, embeddings.shape[0])
        if (
            embeddings.shape[1] != self.stored_rows.shape[1]
            or embeddings.device != self.stored_rows.device
        ):
            expected = (
                f"embeddings of width {self.stored_rows.shape[1]} on {self.stored_rows.device}"
            )
            raise fail(
                "EmbeddingQueue", expected, describe(embeddings), "Move the queue with .to()."
            )
        # new tensors, not writes in place: a graph that holds the old rows stays valid until its backward pass
        new_rows, new_labels = embeddings[-self.size :], labels[-self.size :]
        start = new_rows.shape[0]
        self.stored_rows = torch.cat(
            [self.stored_rows[start:], new_rows.to(self.stored_rows.dtype)]
        )
        self.stored_labels = torch.cat([self.stored_labels[start:], new_labels.long()])
        self.num_rows = min(self.size, self.num_rows + embeddings.shape[0])

    def reset(self) -> None:
        """Forget all rows."""
        self.num_rows = 0

    def get_extra_state(self) -> Tensor:
        """The number of rows held, for ``state_dict``."""
        return torch.tensor(self.num_rows)

    def set_extra_state(self, state: Tensor) -> None:
        """Take up the number of rows held."""
        self.num_rows = int(state)

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"dim={self.stored_rows.shape[1]}, size={self.size}"


class CrossBatchMemory(nn.Module):
    r"""Cross-batch memory (XBM) around a pair loss: the batch against itself, and against rows of earlier batches.

    Use it where the batch is too small to hold hard negatives and a larger one does not fit: stored embeddings cost
    no activations. They are out of date by some steps, which is harmless when the model drifts slowly: fine-tuning,
    small learning rates, after a warm-up.

    .. math:: L = \ell(Z, Y) + w\, \ell(Z, Y;\, M, Y_M)

    where :math:`M` are the rows of earlier batches. The batch joins :math:`M` after the loss, so no row ever meets
    its own copy. In ``eval()`` the memory is used and stays as it is.

    Args:
        loss: Called as ``loss(embeddings, labels)`` and ``loss(embeddings, labels, contrast, contrast_labels)``, as
            :class:`SupConLoss` is. Its own ``distributed`` has to be off: set it here.
        dim: Width D of the embeddings.
        size: Rows to remember; tens of batches are usual, up to the whole training set in the paper.
        weight: :math:`w \ge 0`, weight of the memory's term.
        warmup_steps: Calls in training mode during which nothing is stored, while the model moves fast (the paper:
            1000 from ImageNet weights). 0 suits a pre-trained CLIP at a small rate.
        distributed: Gather embeddings and labels from all ranks first: the memory holds the batches of all ranks, in
            rank order, equal on every rank.

    Raises:
        ValueError: If a number is out of its range, or ``loss`` gathers by itself.

    Example:
        >>> from clipreid_kit import SupConLoss
        >>> loss = CrossBatchMemory(SupConLoss(temperature=1.0), dim=2, size=64)
        >>> loss(torch.eye(2), torch.tensor([0, 1]))  # no positives in the batch, nothing remembered
        tensor(0.)
        >>> loss(torch.eye(2), torch.tensor([0, 1]))  # each row finds its identity in the memory: ln(1 + e) - 1
        tensor(0.3133)

    Note:
        pytorch-metric-learning stores first, and compares with the memory only: pairs inside the batch then have
        gradient on one side. Here, as in the code of the paper, the batch's own term is separate and has both.

        In training the memory changes its length while it fills: compile the model, not this Module.

    References:
        Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020, algorithm 1.
    """

    def __init__(
        self,
        loss: nn.Module,
        dim: int,
        size: int,
        *,
        weight: float = 1.0,
        warmup_steps: int = 0,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("CrossBatchMemory", "weight", weight, 0)
        check_integer("CrossBatchMemory", "warmup_steps", warmup_steps, 0)
        if getattr(loss, "distributed", False):
            raise fail(
                "CrossBatchMemory",
                "loss with distributed=False",
                "True",
                "Set it on CrossBatchMemory instead.",
            )
        self.loss = loss
        self.queue = EmbeddingQueue(dim, size)
        self.weight = weight
        self.warmup_steps = warmup_steps
        self.distributed = distributed
        self.num_steps = 0

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Loss of the batch and, where rows are remembered, of the batch against them; then the batch is stored."""
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        value: Tensor = self.loss(embeddings, labels)
        if self.queue.num_rows > 0:
            value = value + self.weight * self.loss(
                embeddings, labels, self.queue.rows(), self.queue.labels()
            )
        if self.training:
            if self.num_steps >= self.warmup_steps:
                self.queue.enqueue(embeddings, labels)
            self.num_steps += 1
        return value

    def get_extra_state(self) -> Tensor:
        """The number of training steps so far, for ``state_dict``."""
        return torch.tensor(self.num_steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Take up the number of training steps."""
        self.num_steps = int(state)

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"weight={self.weight}, warmup_steps={self.warmup_steps}, distributed={self.distributed}"
