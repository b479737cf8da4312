"""Contrast with the rows of earlier batches (cross-batch memory, XBM)."""

from typing import Final

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
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.argument_checks import check_changes_state_once


@fixed_options(not_kept=("dim",))
class EmbeddingQueue(nn.Module):
    """The last ``size`` embeddings with their labels, first in, first out; they are buffers.

    It is the building block of :class:`CrossBatchMemory`, for custom losses that need rows of
    earlier batches. Rows are kept without a graph and unchanged: they are not normalised.

    Args:
        dim: Width D of the embeddings.
        size: Number of rows to keep, at least 1.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> queue = EmbeddingQueue(dim=2, size=3)
        >>> queue.enqueue(torch.eye(2), torch.tensor([4, 5]))
        >>> queue.enqueue(torch.ones(2, 2), torch.tensor([6, 7]))
        >>> queue.labels()  # the oldest row was dropped
        tensor([5, 6, 7])
    """

    stored_rows: Tensor
    stored_labels: Tensor

    size: Final[int]

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        check_integer("EmbeddingQueue", "dim", dim, 1)
        check_integer("EmbeddingQueue", "size", size, 1)

        self.size = size
        # A Python number, so that reading it does not wait for the device.
        self.num_rows = 0
        self.register_buffer("stored_rows", torch.zeros(size, dim))
        self.register_buffer("stored_labels", torch.zeros(size, dtype=torch.long))

    def rows(self) -> Float[Tensor, "m d"]:
        """Rows in the queue, oldest first; (0, D) if it is empty.

        Later calls of ``enqueue`` do not change the returned tensor.
        """
        return self.stored_rows[self.size - self.num_rows :]

    def labels(self) -> Integer[Tensor, " m"]:
        """Labels of the rows, in the same order."""
        return self.stored_labels[self.size - self.num_rows :]

    @torch.no_grad()
    def enqueue(self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]) -> None:
        """Append rows, and drop the oldest beyond ``size``.

        Rows that are not finite are left out; to see them, this waits for the device. Inside a
        compiled graph they are not looked for.

        Args:
            embeddings: Any number of rows; of more than ``size`` the last are kept.
            labels: Identity of each row.

        Raises:
            ValueError: If shapes or devices disagree with the queue.
        """
        check_embeddings("EmbeddingQueue", "embeddings", embeddings)
        check_labels("EmbeddingQueue", "labels", labels, embeddings.shape[0], embeddings.device)

        dim = self.stored_rows.shape[1]
        device = self.stored_rows.device
        if embeddings.shape[1] != dim or embeddings.device != device:
            expected = f"embeddings of width {dim} on {device}"
            remedy = "Move the queue with .to()."
            raise fail("EmbeddingQueue", expected, describe(embeddings), remedy)

        # A row that is not finite would make every later loss NaN. A compiled graph cannot look.
        is_finite = embeddings.isfinite().all(dim=1)
        if not torch.compiler.is_compiling() and not bool(is_finite.all()):
            embeddings, labels = embeddings[is_finite], labels[is_finite]

        new_rows = embeddings[-self.size :].to(self.stored_rows.dtype)
        new_labels = labels[-self.size :].long()
        num_new = new_rows.shape[0]

        # New tensors, not writes in place: a graph that holds the old rows stays valid.
        self.stored_rows = torch.cat([self.stored_rows[num_new:], new_rows])
        self.stored_labels = torch.cat([self.stored_labels[num_new:], new_labels])
        self.num_rows = min(self.size, self.num_rows + embeddings.shape[0])

    def reset(self) -> None:
        """Remove all rows."""
        self.num_rows = 0

    def get_extra_state(self) -> Tensor:
        """Return the number of rows for ``state_dict``."""
        return torch.tensor(self.num_rows, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of rows."""
        self.num_rows = int(state)

    def extra_repr(self) -> str:
        """Sizes for ``print(module)``."""
        return f"dim={self.stored_rows.shape[1]}, size={self.size}, num_rows={self.num_rows}"


@fixed_options(not_kept=("dim", "size"))
class CrossBatchMemory(nn.Module):
    r"""Cross-batch memory (XBM): a pair loss of the batch, and of the batch against earlier rows.

    Use it where the batch is too small to contain hard negatives and a larger one does not fit:
    stored embeddings cost no activations. They are a few steps out of date, which is harmless while
    the model drifts slowly: in fine-tuning, with small learning rates, after a warm-up.

    .. math:: L = \ell(Z, Y) + w\, \ell(Z, Y;\, M, Y_M)

    Here :math:`M` are the rows of earlier batches. The batch joins :math:`M` after the loss, so no
    row ever meets its own copy. Rows that are not finite do not join, so a skipped step of
    mixed-precision training does no lasting harm. In ``eval()`` mode the memory is used and stays
    unchanged.

    Args:
        loss: Called as ``loss(embeddings, labels)`` and
            ``loss(embeddings, labels, contrast, contrast_labels)``, such as :class:`SupConLoss`.
            Its own ``distributed`` has to be off: set it here.
        dim: Width D of the embeddings.
        size: Number of rows to remember. Tens of batches are usual, in the paper up to the whole
            training set.
        weight: :math:`w \ge 0`, weight of the memory's term.
        warmup_steps: Calls in training mode during which nothing is stored, while the model moves
            fast (1000 in the paper, from ImageNet weights). 0 suits a pre-trained CLIP with a small
            rate.
        distributed: Gather embeddings and labels from all ranks first. The memory then holds the
            batches of all ranks in rank order, equal on every rank.

    Raises:
        ValueError: If a number is out of its range, or ``loss`` gathers by itself.

    Example:
        >>> from clipreid_kit import SupConLoss
        >>> loss = CrossBatchMemory(SupConLoss(temperature=1.0), dim=2, size=64)
        >>> loss(torch.eye(2), torch.tensor([0, 1]))  # no positives in the batch, an empty memory
        tensor(0.)
        >>> # now each row finds its identity in the memory: ln(1 + e) - 1
        >>> loss(torch.eye(2), torch.tensor([0, 1]))
        tensor(0.3133)

    Note:
        pytorch-metric-learning stores first, and compares only with the memory: pairs inside the
        batch then have a gradient on one side. Here, as in the code of the paper, the batch's own
        term is separate and has both.

        In training the memory changes its length while it fills: compile the model, not this
        module.

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
        check_integer("CrossBatchMemory", "dim", dim, 1)
        check_integer("CrossBatchMemory", "size", size, 1)
        check_at_least("CrossBatchMemory", "weight", weight, 0)
        check_integer("CrossBatchMemory", "warmup_steps", warmup_steps, 0)
        if getattr(loss, "distributed", False):
            raise ValueError(
                "CrossBatchMemory: the loss inside gathers rows by itself (distributed=True). "
                "Set distributed=True on CrossBatchMemory instead."
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
        """Compute the loss of the batch and of the batch against the memory, then store it."""
        if self.training:
            check_changes_state_once("CrossBatchMemory")
        if self.distributed:
            embeddings, labels = gather_batch(
                "CrossBatchMemory", embeddings, labels, options=self._options()
            )

        value: Tensor = self.loss(embeddings, labels)
        if self.queue.num_rows > 0:
            to_memory = self.loss(embeddings, labels, self.queue.rows(), self.queue.labels())
            value = value + self.weight * to_memory

        if self.training:
            if self.num_steps >= self.warmup_steps:
                self.queue.enqueue(embeddings, labels)
            self.num_steps += 1

        return value

    def _options(self) -> tuple[object, ...]:
        """Options and state that every rank needs alike."""
        return (repr(self.loss), self.extra_repr(), self.queue.extra_repr(), self.num_steps)

    def get_extra_state(self) -> Tensor:
        """Return the number of training steps for ``state_dict``."""
        return torch.tensor(self.num_steps, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of training steps."""
        self.num_steps = int(state)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"weight={self.weight}, warmup_steps={self.warmup_steps}, "
            f"distributed={self.distributed}"
        )
