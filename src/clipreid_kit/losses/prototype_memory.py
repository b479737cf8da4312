"""Contrast with one remembered prototype for each identity (cluster contrast)."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_embeddings,
    check_fraction,
    check_integer,
    check_labels,
    check_positive,
    describe,
    fail,
)
from clipreid_kit.distances import l2_normalize
from clipreid_kit.distributed import gather
from clipreid_kit.losses._all_classes import check_class_labels, cross_entropy_over_classes

Update = Literal["hardest", "mean", "each"]


def _losses_of_rows(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    prototypes: Float[Tensor, "c d"],
    filled: Bool[Tensor, " c"],
    temperature: float,
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Loss of each row, zero where the prototype of its identity is not filled; and a mask of the others."""
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = l2_normalize(embeddings) / temperature
        if rows.shape[0] == 0:
            return rows.sum(dim=1) * 0.0, filled[labels.long()]
        # with no prototype at all every logit would be -inf, and their softmax 0 / 0
        bias = torch.zeros_like(filled, dtype=rows.dtype).masked_fill(
            ~filled & filled.any(), float("-inf")
        )
        losses = cross_entropy_over_classes(rows, labels, prototypes.to(rows.dtype), bias=bias)
        known = filled.index_select(0, labels.long())
        return torch.where(known, losses, 0.0), known


def _moved(
    prototypes: Float[Tensor, "n d"],
    filled: Bool[Tensor, " n"],
    rows: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    momentum: float,
    update: Update,
) -> Float[Tensor, "n d"]:
    """New prototype of each row's identity, from the present one; the present one where it has no direction, or is NaN.

    Sums are matrix products, and rows of one identity get the bits of the first of them: whatever the order in which
    they are written, every rank ends with the same memory.
    """
    same_NN = labels[:, None] == labels[None, :]
    count_N = same_NN.sum(dim=1)
    if (
        update == "each"
    ):  # row by row c <- m c + (1 - m) z, so a row has lost a factor m for each row after it
        later_N = same_NN.tril(-1).sum(dim=0)
        weight_N, keep_N = (
            (1 - momentum) * momentum ** later_N.to(rows.dtype),
            momentum ** count_N.to(rows.dtype),
        )
    else:
        weight_N, keep_N = (1 - momentum) / count_N, torch.full_like(rows[:, 0], momentum)
    if update == "hardest":
        nearness_N = (prototypes * rows).sum(dim=1)
        farthest_N = nearness_N.expand_as(same_NN).masked_fill(~same_NN, float("inf")).argmin(dim=1)
        chosen_N = farthest_N == torch.arange(rows.shape[0], device=rows.device)
        weight_N = torch.where(chosen_N, 1 - momentum, 0.0)
    weight_N = torch.where(filled, weight_N, 1 / count_N).to(rows.dtype)
    new = keep_N[:, None] * prototypes + same_NN.to(rows.dtype) @ (weight_N[:, None] * rows)
    length = torch.linalg.vector_norm(new, dim=1, keepdim=True)
    new = torch.where(length > 0, new / length, prototypes)
    return new[same_NN.int().argmax(dim=1)]


class PrototypeMemoryLoss(nn.Module):
    r"""Contrast with a memory of one prototype for each identity; holds the prototypes, as buffers and not parameters.

    Every row is compared with *all* identities of the training set, not only with those in the batch, at the cost of
    one matrix product. One stage, no prompts, no classifier: on CLIP this term alone is worth about as much as learned
    prompts (PCL-CLIP). In training mode each call returns the loss and then moves the prototypes, outside the graph:

    .. math::
        L = -\frac{1}{N} \sum_i \log \frac{\exp(z_i \cdot c_{y_i} / \tau)}{\sum_{k} \exp(z_i \cdot c_k / \tau)}
        \qquad c_y \leftarrow \frac{m\, c_y + (1 - m)\, u_y}{\lVert m\, c_y + (1 - m)\, u_y \rVert}

    where :math:`u_y` is made of the batch's rows of identity :math:`y` (``update``). In ``eval()`` nothing moves.

    An identity without a prototype (never initialised and not seen yet) takes no part: it is no candidate, and its
    rows have no loss. The first batch that holds it fills it with the mean of its rows, whatever ``update`` says.
    Rows that are not finite leave the memory as it is, so a skipped mixed-precision step does no lasting harm.

    Args:
        dim: Width D of the embeddings.
        num_identities: Rows of the memory: labels are in [0, ``num_identities``). Out of that range is an error: a
            ``ValueError`` for labels on the CPU, the device's own assertion elsewhere.
        temperature: :math:`\tau > 0`, in units of cosine similarity.
        momentum: :math:`m` in [0, 1): the share of a prototype that stays at an update.
        update: :math:`u_y` is ``"hardest"``, the row least similar to the prototype; ``"mean"``, the mean of the
            rows; or ``"each"``, where rows are taken one after the other in batch order, each with momentum.
        distributed: Average over the rows of all ranks, and update with all of them in rank order, so that every rank
            holds the same memory.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = PrototypeMemoryLoss(dim=2, num_identities=3, temperature=1.0)
        >>> rows, labels = torch.eye(2), torch.tensor([0, 2])
        >>> loss(rows, labels)  # nothing is remembered yet
        tensor(0.)
        >>> loss(rows, labels)  # two prototypes: ln(1 + e) - 1
        tensor(0.3133)
        >>> loss.filled
        tensor([ True, False,  True])

    Relations:
        With prototypes that are learned this would be a cosine classifier; with prototypes from a text tower it is
        :func:`image_to_text_ce_loss`. :class:`CrossBatchMemory` remembers rows instead of means.

    Note:
        Cluster Contrast and PCL-CLIP move the prototypes in the backward pass; here it happens in the forward pass,
        after the loss, so it does not depend on how often ``backward`` runs. For ``"each"`` they normalise after
        every row, here once after the batch: the weights of a row differ by a few percent. PCL-CLIP (hardest, m = 0.2,
        temperature 0.05) builds the memory anew before each epoch: call :meth:`initialize`.

    References:
        Dai et al., Cluster Contrast for Unsupervised Person Re-Identification, ACCV 2022 (cluster memory). Li and Gong,
        Prototypical Contrastive Learning-based CLIP Fine-tuning for Object Re-identification, 2023.
    """

    prototypes: Tensor
    filled: Tensor

    def __init__(
        self,
        dim: int,
        num_identities: int,
        *,
        temperature: float = 0.05,
        momentum: float = 0.2,
        update: Update = "hardest",
        distributed: bool = False,
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
        self.register_buffer("prototypes", torch.zeros(num_identities, dim))
        self.register_buffer("filled", torch.zeros(num_identities, dtype=torch.bool))

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        owner, (num_identities, dim) = "PrototypeMemoryLoss", self.prototypes.shape
        check_embeddings(owner, "embeddings", embeddings)
        check_labels(owner, "labels", labels, embeddings.shape[0])
        if embeddings.shape[1] != dim or embeddings.device != self.prototypes.device:
            expected = f"embeddings of width {dim} on {self.prototypes.device}"
            raise fail(
                owner,
                expected,
                describe(embeddings),
                "Make the memory for this model, and move it with .to().",
            )
        check_class_labels(
            owner,
            labels,
            num_identities,
            "num_identities counts all identities of the training set.",
        )

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Mean loss of the rows whose identity has a prototype (zero, connected, if none has); then the update."""
        self._check(embeddings, labels)
        losses, known = _losses_of_rows(
            embeddings, labels, self.prototypes, self.filled, self.temperature
        )
        if self.distributed:
            losses, known = gather(losses), gather(known.float())
        loss = losses.sum() / known.sum().clamp(min=1)
        if self.training:
            self._remember(embeddings.detach(), labels)
        return loss

    @torch.no_grad()
    def _remember(self, embeddings: Tensor, labels: Tensor) -> None:
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        if embeddings.shape[0] == 0:
            return
        labels = labels.long()
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = l2_normalize(embeddings)
            present = self.prototypes.index_select(0, labels).to(rows.dtype)
            filled = self.filled.index_select(0, labels)
            new = _moved(present, filled, rows, labels, self.momentum, self.update)
            self.prototypes.index_copy_(0, labels, new.to(self.prototypes.dtype))
            self.filled.index_copy_(0, labels, filled | (new != 0).any(dim=1))

    @torch.no_grad()
    def initialize(self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]) -> None:
        """Replace the whole memory by the means of normalised rows; identities without a row are empty again.

        With ``distributed`` each rank gives its part of the training set, and all parts are used on every rank.

        Args:
            embeddings: Rows of the training set, from the model as it is now.
            labels: Identity of each row.

        Raises:
            ValueError: If shapes disagree or (on the CPU) a label is out of range.
        """
        self._check(embeddings, labels)
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        rows = l2_normalize(embeddings)
        sums = torch.zeros_like(self.prototypes, dtype=rows.dtype).index_add_(
            0, labels.long(), rows
        )
        means = l2_normalize(sums)
        self.prototypes.copy_(means)
        self.filled.copy_((means != 0).any(dim=1))

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        num_identities, dim = self.prototypes.shape
        return (
            f"num_identities={num_identities}, dim={dim}, temperature={self.temperature}, "
            f"momentum={self.momentum}, update={self.update!r}, distributed={self.distributed}"
        )
