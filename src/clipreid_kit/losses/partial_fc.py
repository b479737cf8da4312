"""Partial FC: a head with a margin whose identities are shared out between the ranks."""

import math
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_choice,
    check_embeddings,
    check_label_range,
    check_labels,
    fail,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import dot_product, l2_normalize, to_common_precision
from clipreid_kit.distributed import gather, gather_batch, world_size
from clipreid_kit.losses._engine.argument_checks import check_changes_state_once
from clipreid_kit.losses._engine.margin_softmax import Margin, margin_cross_entropy
from clipreid_kit.losses._margin_head import check_head_options, check_loss_options
from clipreid_kit.losses.arcface import bind_angular_margin
from clipreid_kit.losses.class_sampling import class_rows, sample_classes
from clipreid_kit.losses.cosface import bind_cosine_margin

_OWNER = "PartialFCLoss"

# Identities whose initial weights come from one generator.
_BLOCK = 1024


@fixed_options()
class PartialFCLoss(nn.Module):
    r"""Cross entropy over identities whose weights are shared out between the ranks.

    Use it for so many identities that one process cannot hold the weight, its gradient and the
    logits: each of R ranks holds C / R rows of the weight, and computes the logits of the whole
    batch with those only. A few numbers for each row of the batch are exchanged; the logits and the
    weight never are. Value and gradients are those of :class:`ArcFaceLoss` or :class:`CosFaceLoss`
    on one process with the joined batch.

    .. math::
        \ell_i = \ln \sum_r \sum_{j \in C_r} e^{z_{ij}} - (1 - \varepsilon) z_{i y_i}
            - \frac{\varepsilon}{C} \sum_r \sum_{j \in C_r} z_{ij}

    with the logits :math:`z` of :func:`arcface_logits` or :func:`cosface_logits`, and the
    identities :math:`C_r` of rank r.

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C of all ranks together, at least their number.
        scale: Above 0; 16 to 64 is usual.
        margin: Of ArcFace in radians, in [0, pi); of CosFace a cosine, at least 0.
        kind: ``"arcface"`` or ``"cosface"``.
        label_smoothing: In [0, 1).
        num_sampled: Identities of all ranks that take part in a training step, those of the batch
            included: every rank draws its share at random, as :func:`sample_classes` does. ``None``
            means all. In ``eval`` mode all take part.
        seed: Decides the initial weight, and together with the step and the rank what is drawn. The
            initial weight of an identity does not depend on the number of ranks.

    Attributes:
        weight: The rows of this rank's identities; a parameter.
        first_identity: The first of them; they follow each other.

    Raises:
        ValueError: If an option is out of its range; in ``forward``, if shapes disagree, a label is
            out of range, or the process group is not that of the construction.

    Example:
        >>> loss = PartialFCLoss(dim=8, num_identities=1000)
        >>> loss(torch.randn(4, 8), torch.tensor([5, 5, 17, 999])).backward()
        >>> loss.weight.grad.shape  # all rows, as there is one process
        torch.Size([1000, 8])

    Note:
        Construct it after ``init_process_group``, keep it out of ``DistributedDataParallel`` (which
        would make all shards equal), and pass its parameters to the optimiser of each rank. The
        backward pass leaves the exact gradient in ``weight``, with nothing to average.

        ``state_dict`` holds the rows of this rank, and loads on the same rank of as many. For other
        numbers of ranks save :meth:`full_state_dict`, which every number of ranks can load.

        The rows of the batch of all ranks times the identities of one are kept for the backward
        pass, on several ranks in plain autograd. One process computes as :class:`ArcFaceLoss` does,
        in less time, and has first derivatives only. A step with ``num_sampled`` waits for the
        device.

    References:
        An et al., Partial FC: Training 10 Million Identities on a Single Machine, ICCV Workshops
        2021, section 3.2. An et al., Killing Two Birds with One Stone, CVPR 2022, section 3.2.
    """

    dim: Final[int]
    num_identities: Final[int]
    seed: Final[int]

    def __init__(
        self,
        dim: int,
        num_identities: int,
        scale: float = 30.0,
        margin: float = 0.5,
        *,
        kind: Literal["arcface", "cosface"] = "arcface",
        label_smoothing: float = 0.0,
        num_sampled: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_head_options(_OWNER, dim, num_identities, scale, num_centers=1)
        check_loss_options(
            _OWNER, num_identities, label_smoothing, num_sampled, sparse_grad=False, seed=seed
        )
        check_choice(_OWNER, "kind", kind, ("arcface", "cosface"))
        _bind_margin(kind, margin)

        self.num_ranks = world_size()
        self.rank = torch.distributed.get_rank() if self.num_ranks > 1 else 0
        if num_identities < self.num_ranks:
            expected = f"at least {self.num_ranks} identities, one for each rank"
            raise fail(_OWNER, expected, num_identities)

        self.dim = dim
        self.num_identities = num_identities
        self.scale = scale
        self.margin = margin
        self.kind = kind
        self.label_smoothing = label_smoothing
        self.num_sampled = num_sampled
        self.seed = seed
        self.step = 0
        self.distributed = True  # ``local_losses`` switches it off

        self.first_identity, self._stop_identity = self._identities_of(self.rank)
        self.weight = nn.Parameter(
            _initial_rows(dim, num_identities, self.first_identity, self._stop_identity, seed)
        )

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Compute the mean cross entropy over the rows of all ranks; 0 for no rows."""
        options = (self._options(), self.num_ranks, self.step)
        rows_ND, labels_N = gather_batch(
            _OWNER, embeddings, labels, options=options, error=self._layout_error()
        )
        self._check_batch(rows_ND, labels_N)

        weight_SD, position_N, is_own_N = self._identities_of_step(labels_N)
        if self.num_ranks == 1:
            return self._loss_of_one_process(rows_ND, weight_SD, position_N)

        rows_ND, weight_SD = to_common_precision(rows_ND, weight_SD)

        with torch.autocast(rows_ND.device.type, enabled=False):
            own_3N = self._sums_of_own(rows_ND, weight_SD, position_N, is_own_N)
            (sums_R3N,) = gather_batch(_OWNER, own_3N[None])
            loss_N = self._cross_entropy(sums_R3N)
            return loss_N.sum() / max(loss_N.shape[0], 1)

    def full_state_dict(self) -> dict[str, Tensor]:
        """State with the weight of all ranks (C, D), which any number of ranks can load.

        Every rank has to call it, and holds the whole weight while it lasts.
        """
        state = self.state_dict()
        state["weight"] = gather(self.weight.detach())
        state["_extra_state"] = self._layout(0, self.num_identities)
        return dict(state)

    def get_extra_state(self) -> Tensor:
        """Return the identities of this rank and the step, as a tensor, for ``state_dict``."""
        return self._layout(self.first_identity, self._stop_identity)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a stored step; the identities were checked with the weight."""
        self.step = int(state[3])

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return f"{self._options()}, first_identity={self.first_identity}"

    def _options(self) -> str:
        return (
            f"dim={self.dim}, num_identities={self.num_identities}, scale={self.scale}, "
            f"margin={self.margin}, kind={self.kind!r}, label_smoothing={self.label_smoothing}, "
            f"num_sampled={self.num_sampled}, seed={self.seed}"
        )

    def _layout(self, first: int, stop: int) -> Tensor:
        return torch.tensor([self.num_identities, first, stop, self.step], device="cpu")

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        *arguments: Any,  # noqa: ANN401 (torch's own)
    ) -> None:
        """Take the rows of this rank out of a whole weight, and refuse those of other ranks."""
        layout = state_dict.get(f"{prefix}_extra_state")
        weight = state_dict.get(f"{prefix}weight")
        if layout is not None and weight is not None:
            stored = tuple(int(number) for number in layout[:3])
            state_dict[f"{prefix}weight"] = self._own_rows(stored, weight)

        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _own_rows(self, stored: tuple[int, ...], weight: Any) -> Any:  # noqa: ANN401 (a checkpoint)
        own = (self.num_identities, self.first_identity, self._stop_identity)
        if stored == own:
            return weight
        if stored == (self.num_identities, 0, self.num_identities):
            return weight[self.first_identity : self._stop_identity]

        raise ValueError(
            f"{_OWNER}: this state holds the identities {stored[1]} to {stored[2] - 1} of "
            f"{stored[0]}, and this rank has {own[1]} to {own[2] - 1} of {own[0]}. Save "
            "full_state_dict(), which any number of ranks can load."
        )

    def _layout_error(self) -> ValueError | None:
        """Error of a process group that is not that of the construction."""
        if not self.distributed and self.num_ranks > 1:
            return ValueError(
                f"{_OWNER}: one rank holds a part of the identities and cannot compute the loss "
                "alone. Leave the loss out inside local_losses."
            )
        if world_size() != self.num_ranks:
            return ValueError(
                f"{_OWNER}: it was constructed for {self.num_ranks} rank(s) and runs on "
                f"{world_size()}. Construct it after init_process_group."
            )
        return None

    def _check_batch(self, rows_ND: Tensor, labels_N: Tensor) -> None:
        """Check the batch of all ranks, so that all of them raise the same error."""
        check_embeddings(_OWNER, "embeddings", rows_ND)
        if rows_ND.shape[1] != self.dim:
            raise fail(_OWNER, f"embeddings of width {self.dim}", rows_ND.shape[1])

        check_labels(_OWNER, "labels", labels_N, rows_ND.shape[0], rows_ND.device)
        check_label_range(_OWNER, labels_N, self.num_identities)
        if self._samples() and rows_ND.shape[0] > self._num_drawn():
            raise ValueError(
                f"{_OWNER}: each rank draws {self._num_drawn()} identities, fewer than the "
                f"{rows_ND.shape[0]} rows of the batch, whose identities all take part. "
                "Raise num_sampled."
            )

    def _identities_of(self, rank: int) -> tuple[int, int]:
        """First identity of a rank, and the one after its last."""
        first = rank * self.num_identities // self.num_ranks
        return first, (rank + 1) * self.num_identities // self.num_ranks

    def _samples(self) -> bool:
        """Whether some rank leaves identities out."""
        largest = -(-self.num_identities // self.num_ranks)
        return self.training and self.num_sampled is not None and self._num_drawn() < largest

    def _num_drawn(self) -> int:
        """Identities that a rank draws, if it has as many."""
        total = self.num_identities if self.num_sampled is None else self.num_sampled
        return -(-total // self.num_ranks)

    def _num_in_step(self) -> int:
        """Identities of all ranks that take part in a step."""
        if not self._samples():
            return self.num_identities

        spans = [self._identities_of(rank) for rank in range(self.num_ranks)]
        return sum(min(stop - first, self._num_drawn()) for first, stop in spans)

    def _identities_of_step(self, labels_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of this rank's weight, the row of each label, and whether the label is here."""
        position_N = labels_N.long() - self.first_identity
        num_own = self.weight.shape[0]
        is_own_N = (position_N >= 0) & (position_N < num_own)
        if not self._samples():
            return self.weight, position_N.clamp(0, num_own - 1), is_own_N

        check_changes_state_once(_OWNER)
        seeds = np.random.SeedSequence([self.seed, self.rank, self.step]).generate_state(1)
        self.step += 1
        sample = sample_classes(
            position_N[is_own_N],
            num_own,
            min(self._num_drawn(), num_own),
            generator=torch.Generator().manual_seed(int(seeds[0])),
        )
        found_N = torch.searchsorted(sample.classes, position_N)
        rows = class_rows(self.weight, sample.classes)
        return rows, found_N.clamp(0, rows.shape[0] - 1), is_own_N

    def _loss_of_one_process(
        self, rows_ND: Tensor, weight_SD: Tensor, position_N: Tensor
    ) -> Tensor:
        """The same loss where all logits of a row are here."""
        return margin_cross_entropy(
            _OWNER,
            rows_ND,
            position_N,
            weight_SD,
            _bind_margin(self.kind, self.margin),
            self.scale,
            num_centers=1,
            label_smoothing=self.label_smoothing,
        )

    def _sums_of_own(
        self, rows_ND: Tensor, weight_SD: Tensor, position_N: Tensor, is_own_N: Tensor
    ) -> Tensor:
        """Logsumexp and sum of this rank's logits, and the target's where it is here (3, N)."""
        unit_SD = l2_normalize(weight_SD)
        if unit_SD.requires_grad:
            # Each rank computes the loss of all, so what comes back is R times the gradient. DDP
            # divides that of the model; nothing else would divide this one.
            unit_SD.register_hook(self._divide_by_ranks)  # type: ignore[no-untyped-call]

        logits_NS = dot_product(l2_normalize(rows_ND) * self.scale, unit_SD)
        position_N1 = position_N[:, None]
        plain_N1 = logits_NS.gather(1, position_N1)
        margin = _bind_margin(self.kind, self.margin)
        changed_N1 = margin(plain_N1 / self.scale)[0] * self.scale
        target_N1 = torch.where(is_own_N[:, None], changed_N1, plain_N1)
        logits_NS = logits_NS.scatter(1, position_N1, target_N1)

        target_N = torch.where(is_own_N, target_N1[:, 0], 0.0)
        sum_N = logits_NS.sum(dim=1) if self.label_smoothing > 0 else torch.zeros_like(target_N)
        return torch.stack([logits_NS.logsumexp(dim=1), sum_N, target_N])

    def _divide_by_ranks(self, gradient: Tensor) -> Tensor:
        return gradient / self.num_ranks

    def _cross_entropy(self, sums_R3N: Tensor) -> Tensor:
        """Cross entropy of each row, from the sums of all ranks."""
        logsumexp_N = sums_R3N[:, 0].logsumexp(dim=0)
        mean_N = sums_R3N[:, 1].sum(dim=0) / self._num_in_step()
        target_N = sums_R3N[:, 2].sum(dim=0)

        smoothing = self.label_smoothing
        return logsumexp_N - (1 - smoothing) * target_N - smoothing * mean_N


def _bind_margin(kind: str, margin: float) -> Margin:
    if kind == "arcface":
        return bind_angular_margin(_OWNER, margin, "linear")
    return bind_cosine_margin(_OWNER, margin)


def _initial_rows(dim: int, num_identities: int, first: int, stop: int, seed: int) -> Tensor:
    """Xavier-initialised rows of the identities [first, stop), the same on any number of ranks."""
    bound = math.sqrt(6 / (num_identities + dim))
    blocks = []

    for block in range(first // _BLOCK, -(-stop // _BLOCK)):
        mixed = np.random.SeedSequence([seed, block]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        rows = torch.empty(_BLOCK, dim, device="cpu").uniform_(-bound, bound, generator=generator)

        offset = block * _BLOCK
        blocks.append(rows[max(first - offset, 0) : stop - offset])

    return torch.cat(blocks).to(torch.get_default_device())
