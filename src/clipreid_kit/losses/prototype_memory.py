"""Contrast with one prototype for each identity, kept in a memory (cluster contrast)."""

from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_embeddings,
    check_fraction,
    check_integer,
    check_label_range,
    check_labels,
    check_positive,
    describe,
    fail,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import dot_product, l2_normalize
from clipreid_kit.distributed import errors_on_all_ranks, gather_batch
from clipreid_kit.losses._engine.argument_checks import check_changes_state_once
from clipreid_kit.losses._engine.class_cross_entropy import cross_entropy_over_classes

Update = Literal["hardest", "mean", "each"]


def prototype_memory_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    prototypes: Float[Tensor, "c d"],
    filled: Bool[Tensor, " c"],
    *,
    temperature: float = 0.05,
) -> Float[Tensor, ""]:
    """The formula of :class:`PrototypeMemoryLoss` in plain autograd, before its update.

    ``prototypes`` are unit rows, and ``filled`` marks the identities that have one.

    Example:
        >>> rows, labels, filled = torch.eye(2), torch.tensor([0, 1]), torch.tensor([True, True])
        >>> prototype_memory_definition(rows, labels, rows, filled, temperature=1.0)
        tensor(0.3133)
    """
    logits_NC = dot_product(l2_normalize(embeddings), prototypes) / temperature
    logits_NC = logits_NC.masked_fill(~filled, -torch.inf)

    known_N = filled[labels.long()]
    total = F.cross_entropy(logits_NC[known_N], labels[known_N].long(), reduction="sum")
    return total / known_N.sum().clamp(min=1)


@fixed_options(not_kept=("dim", "num_identities"))
class PrototypeMemoryLoss(nn.Module):
    r"""Contrast with a memory of one prototype for each identity; the prototypes are buffers.

    Every row is compared with *all* identities of the training set, not only with those in the
    batch, at the cost of one matrix product. There is one stage, no prompt and no classifier: on
    CLIP this term alone is worth about as much as learned prompts (PCL-CLIP). In training mode each
    call returns the loss, and then moves the prototypes, outside the graph:

    .. math::
        L = -\frac{1}{N} \sum_i
            \log \frac{\exp(z_i \cdot c_{y_i} / \tau)}{\sum_{k} \exp(z_i \cdot c_k / \tau)}
        \qquad
        c_y \leftarrow \frac{m\, c_y + (1 - m)\, u_y}{\lVert m\, c_y + (1 - m)\, u_y \rVert}

    Here :math:`u_y` is made of the batch's rows of identity :math:`y` (``update``). In ``eval()``
    mode nothing moves.

    An identity without a prototype (never initialised and not seen yet) is left out: it is no
    candidate, and its rows have no loss. The first batch that contains it sets its prototype to the
    mean of its rows, for any ``update``. Rows that are not finite leave the memory unchanged,
    so a skipped step of mixed-precision training does no lasting harm.

    Args:
        dim: Width D of the embeddings.
        num_identities: Rows of the memory; labels are in [0, ``num_identities``). A label out of
            range is a ``ValueError`` on the CPU, and the device's own assertion elsewhere.
        temperature: :math:`\tau > 0`, in units of cosine similarity.
        momentum: :math:`m` in [0, 1), the share of a prototype that is kept in an update.
        update: :math:`u_y` is ``"hardest"``, the row least similar to the prototype; ``"mean"``,
            the mean of the rows; or ``"each"``, which takes the rows one after the other in batch
            order, each with momentum.
        distributed: Average over the rows of all ranks, and update with all of them in rank order,
            so that every rank holds the same memory.
        persistent: Whether the memory is in the ``state_dict``. ``False`` is for a memory whose
            size changes, because it is rebuilt before each epoch from new clusters.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = PrototypeMemoryLoss(dim=2, num_identities=3, temperature=1.0)
        >>> rows, labels = torch.eye(2), torch.tensor([0, 2])
        >>> loss(rows, labels)  # the memory is empty
        tensor(0.)
        >>> loss(rows, labels)  # two prototypes: ln(1 + e) - 1
        tensor(0.3133)
        >>> loss.filled
        tensor([ True, False,  True])

    Relations:
        :func:`prototype_memory_definition` is the loss in a few lines. With learned prototypes it
        would be a cosine classifier; with prototypes from a text tower it is
        :func:`image_to_text_ce_loss`. :class:`CrossBatchMemory` remembers rows instead of means.

    Note:
        Cluster Contrast and PCL-CLIP move the prototypes in the backward pass. Here it happens in
        the forward pass, after the loss, so it does not depend on how often ``backward`` runs. For
        ``"each"`` they normalise after every row, here once after the batch: the weights of a row
        differ by a few percent. PCL-CLIP (hardest, m = 0.2, temperature 0.05) rebuilds the memory
        before each epoch: call :meth:`initialize`.

    References:
        Dai et al., Cluster Contrast for Unsupervised Person Re-Identification, ACCV 2022 (cluster
        memory). Li and Gong, Prototypical Contrastive Learning-based CLIP Fine-tuning for Object
        Re-identification, 2023.
    """

    prototypes: Tensor
    filled: Tensor

    persistent: Final[bool]

    def __init__(
        self,
        dim: int,
        num_identities: int,
        *,
        temperature: float = 0.05,
        momentum: float = 0.2,
        update: Update = "hardest",
        distributed: bool = False,
        persistent: bool = True,
    ) -> None:
        super().__init__()
        check_integer("PrototypeMemoryLoss", "dim", dim, 1)
        check_integer("PrototypeMemoryLoss", "num_identities", num_identities, 1)
        check_positive("PrototypeMemoryLoss", "temperature", temperature)
        check_fraction("PrototypeMemoryLoss", "momentum", momentum)
        check_choice("PrototypeMemoryLoss", "update", update, ("hardest", "mean", "each"))

        self.temperature = temperature
        self.momentum = momentum
        self.update: Update = update
        self.distributed = distributed
        self.persistent = persistent
        prototypes = torch.zeros(num_identities, dim)
        filled = torch.zeros(num_identities, dtype=torch.bool)
        self.register_buffer("prototypes", prototypes, persistent=persistent)
        self.register_buffer("filled", filled, persistent=persistent)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Compute the mean loss of the rows whose identity has a prototype, then update the memory.

        If no row has one, the loss is zero, connected to the graph.
        """
        if self.training:
            check_changes_state_once("PrototypeMemoryLoss")
        with errors_on_all_ranks("PrototypeMemoryLoss", 2, distributed=self.distributed):
            self._check_rows(embeddings, labels)

        losses, known = _losses_of_rows(
            embeddings, labels, self.prototypes, self.filled, self.temperature
        )
        if self.distributed:
            losses, known = gather_batch(
                "PrototypeMemoryLoss", losses, known.float(), options=(self.extra_repr(),)
            )
        loss = losses.sum() / known.sum().clamp(min=1)

        if self.training:
            self.move(embeddings.detach(), labels)
        return loss

    @torch.no_grad()
    def move(self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]) -> None:
        """Move the prototypes, as a call in training mode does after its loss.

        Args:
            embeddings: Rows of a batch.
            labels: Identity of each row.
        """
        if self.distributed:
            embeddings, labels = gather_batch("PrototypeMemoryLoss", embeddings, labels)
        if embeddings.shape[0] == 0:
            return

        labels = labels.long()
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = l2_normalize(embeddings)
            current = self.prototypes.index_select(0, labels).to(rows.dtype)
            filled = self.filled.index_select(0, labels)

            new = _moved_prototypes(current, filled, rows, labels, self.momentum, self.update)
            self.prototypes.index_copy_(0, labels, new.to(self.prototypes.dtype))
            self.filled.index_copy_(0, labels, filled | (new != 0).any(dim=1))

    @torch.no_grad()
    def initialize(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        *,
        num_identities: int | None = None,
    ) -> None:
        """Replace the whole memory by the means of normalised rows.

        Identities without a row are empty again. With ``distributed`` each rank passes its part of
        the training set, and all parts are used on every rank.

        Args:
            embeddings: Rows of the training set, from the current model.
            labels: Identity of each row.
            num_identities: New number of rows of the memory, for clusters that are found anew;
                ``None`` keeps it.

        Raises:
            ValueError: If shapes disagree or (on the CPU) a label is out of range.
        """
        count = self.prototypes.shape[0] if num_identities is None else num_identities
        check_integer("PrototypeMemoryLoss", "num_identities", count, 1)
        with errors_on_all_ranks("PrototypeMemoryLoss", 2, distributed=self.distributed):
            self._check_rows(embeddings, labels, num_identities=count)
        if self.distributed:
            embeddings, labels = gather_batch(
                "PrototypeMemoryLoss", embeddings, labels, options=(self.extra_repr(),)
            )

        rows = l2_normalize(embeddings)
        sums = rows.new_zeros(count, rows.shape[1])
        sums.index_add_(0, labels.long(), rows)
        means = l2_normalize(sums)

        is_filled = (means != 0).any(dim=1)
        if count == self.prototypes.shape[0]:
            self.prototypes.copy_(means)
            self.filled.copy_(is_filled)
        else:
            self.prototypes = means.to(self.prototypes.dtype)
            self.filled = is_filled

    def _check_rows(
        self, embeddings: Tensor, labels: Tensor, num_identities: int | None = None
    ) -> None:
        owner = "PrototypeMemoryLoss"
        present, dim = self.prototypes.shape
        check_embeddings(owner, "embeddings", embeddings)
        check_labels(owner, "labels", labels, embeddings.shape[0], embeddings.device)

        if embeddings.shape[1] != dim or embeddings.device != self.prototypes.device:
            raise fail(
                owner,
                f"embeddings of width {dim} on {self.prototypes.device}",
                describe(embeddings),
                "Construct the memory with the model's width, and move it with .to().",
            )

        remedy = "num_identities counts all identities of the training set."
        check_label_range(owner, labels, num_identities or present, remedy)

    def extra_repr(self) -> str:
        """Sizes and options for ``print(module)``."""
        num_identities, dim = self.prototypes.shape
        return (
            f"dim={dim}, num_identities={num_identities}, temperature={self.temperature}, "
            f"momentum={self.momentum}, update={self.update!r}, distributed={self.distributed}, "
            f"persistent={self.persistent}"
        )


def _losses_of_rows(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    prototypes: Float[Tensor, "c d"],
    filled: Bool[Tensor, " c"],
    temperature: float,
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Loss of each row, and whether its identity has a prototype; without one the loss is zero."""
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = l2_normalize(embeddings) / temperature
        if rows.shape[0] == 0:
            return rows.sum(dim=1) * 0.0, filled[labels.long()]

        # Without any prototype all logits would be -inf, and their softmax 0 / 0.
        left_out = ~filled & filled.any()
        bias = torch.zeros_like(filled, dtype=rows.dtype).masked_fill(left_out, float("-inf"))

        losses = cross_entropy_over_classes(rows, labels, prototypes.to(rows.dtype), bias=bias)
        known = filled.index_select(0, labels.long())
        return torch.where(known, losses, 0.0), known


def _moved_prototypes(
    current: Float[Tensor, "n d"],
    filled: Bool[Tensor, " n"],
    rows: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    momentum: float,
    update: Update,
) -> Float[Tensor, "n d"]:
    """New prototype of each row's identity; the current one where the new one is zero or NaN.

    Sums are matrix products, and all rows of an identity get the bits of its first row. So the
    order in which they are written does not matter, and every rank ends with the same memory.
    """
    same_NN = labels[:, None] == labels[None, :]
    num_rows_N = same_NN.sum(dim=1)

    weight_N, keep_N = _update_weights(current, rows, same_NN, momentum, update)
    weight_N = torch.where(filled, weight_N, 1 / num_rows_N).to(rows.dtype)

    weighted_sum_ND = same_NN.to(rows.dtype) @ (weight_N[:, None] * rows)
    new_ND = keep_N[:, None] * current + weighted_sum_ND
    length_N1 = torch.linalg.vector_norm(new_ND, dim=1, keepdim=True)
    new_ND = torch.where(length_N1 > 0, new_ND / length_N1, current)

    first_row_N = same_NN.int().argmax(dim=1)
    return new_ND[first_row_N]


def _update_weights(
    current: Tensor, rows: Tensor, same_NN: Tensor, momentum: float, update: Update
) -> tuple[Tensor, Tensor]:
    """Weights of each row, and of the current prototype, in the new prototype of its identity."""
    num_rows_N = same_NN.sum(dim=1)

    # Row by row c <- m c + (1 - m) z, so a row loses a factor m for each row after it.
    if update == "each":
        num_later_N = same_NN.tril(-1).sum(dim=0)
        weight_N = (1 - momentum) * momentum ** num_later_N.to(rows.dtype)
        return weight_N, momentum ** num_rows_N.to(rows.dtype)

    keep_N = torch.full_like(rows[:, 0], momentum)
    if update == "mean":
        return (1 - momentum) / num_rows_N, keep_N

    similarity_N = (current * rows).sum(dim=1)
    similarity_NN = similarity_N.expand_as(same_NN).masked_fill(~same_NN, float("inf"))
    hardest_N = similarity_NN.argmin(dim=1)
    is_hardest_N = hardest_N == torch.arange(rows.shape[0], device=rows.device)
    return torch.where(is_hardest_N, 1 - momentum, 0.0), keep_N
