"""ArcFace: a classification head with an angular margin, and its loss."""

import math
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, check_positive, fail
from clipreid_kit.distributed import gather
from clipreid_kit.losses._cosine_softmax import (
    check_head,
    check_loss,
    margin_cross_entropy,
    margin_logits,
)
from clipreid_kit.losses.class_sampling import ClassSampler, class_rows

Fallback = Literal["linear", "easy"]


def arcface_logits(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None,
    weight: Float[Tensor, "m d"],
    *,
    scale: float = 30.0,
    margin: float = 0.5,
    fallback: Fallback = "linear",
    num_centers: int = 1,
) -> Float[Tensor, "n c"]:
    r"""Scaled cosines to the identities' weights, with an angle added to the target's.

    For training with any loss of logits. Leave the labels out (``None``) at test time: then no margin is added.

    .. math::
        \text{logit}_{ij} = s \cos(\theta_{ij} + m\,[j = y_i]), \qquad
        \cos(\theta + m) = \cos\theta \cos m - \sqrt{1 - \cos^2\theta}\, \sin m

    Beyond :math:`\theta = \pi - m` the cosine of :math:`\theta + m` would rise again. There ``"linear"`` takes
    :math:`\cos\theta - m \sin m` instead; ``"easy"`` adds the margin only where :math:`\cos\theta > 0` and leaves
    other targets as they are.

    Args:
        embeddings: Rows of any scale; L2-normalised here.
        labels: Identity of each row, in [0, C); ``None`` for cosines without a margin.
        weight: Row(s) of each identity, of any scale: (C * num_centers, D), the centres of an identity together.
        scale: :math:`s > 0`; 16 to 64 is usual. It is 1 / temperature.
        margin: :math:`m` in radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: Where the margin would carry the angle beyond pi: ``"linear"`` or ``"easy"``.
        num_centers: Centres of an identity; the nearest counts (sub-centre ArcFace). 1 is plain ArcFace.

    Returns:
        Logits (N, C) in float32, or float64 where an input is; no rows give no logits.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> arcface_logits(torch.eye(2), torch.tensor([0, 0]), torch.eye(2), scale=1.0, margin=math.pi / 3)
        tensor([[ 0.5000,  0.0000],
                [-0.8660,  1.0000]])

    Note:
        The angle itself is never computed: an ``acos`` has an infinite slope at a cosine of 1, where training leads.
        The root above has one, too; there, exactly, its slope counts as 0, and no other value is changed.

    References:
        Deng et al., ArcFace, CVPR 2019, eq. 3. Deng et al., Sub-center ArcFace, ECCV 2020, eq. 3.
    """
    check_head("arcface_logits", embeddings, labels, weight, scale, num_centers)
    _check_margin("arcface_logits", margin, fallback)
    return margin_logits(
        embeddings,
        labels,
        weight,
        partial(_angular, margin=margin, fallback=fallback),
        scale,
        num_centers,
    )


def arcface_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "m d"],
    *,
    scale: float = 30.0,
    margin: float = 0.5,
    fallback: Fallback = "linear",
    num_centers: int = 1,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Cross entropy of :func:`arcface_logits`, without the logits: one matrix (N, C) is held for the backward pass.

    .. math::
        \ell_i = -(1 - \varepsilon) \log p_{i y_i} - \frac{\varepsilon}{C} \sum_j \log p_{ij}, \qquad
        p_i = \operatorname{softmax}(\text{logit}_i)

    Args:
        embeddings: Rows of any scale; L2-normalised here.
        labels: Identity of each row, in [0, C).
        weight: Row(s) of each identity, of any scale: (C * num_centers, D), the centres of an identity together.
        scale: :math:`s > 0`; 16 to 64 is usual.
        margin: :math:`m` in radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: Where the margin would carry the angle beyond pi: ``"linear"`` or ``"easy"``.
        num_centers: Centres of an identity; the nearest counts.
        label_smoothing: :math:`\varepsilon` in [0, 1); 0.1 is usual with plain classifiers, 0 with margins.

    Returns:
        Mean over the rows; without rows zero, still connected to the graph.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> arcface_loss(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), scale=1.0, margin=math.pi / 2)  # ln 2
        tensor(0.6931)

    Relations:
        Equals ``F.cross_entropy(arcface_logits(...), labels, label_smoothing=...)``. Its gradient is written out, and
        has no second derivative.
    """
    check_head("arcface_loss", embeddings, labels, weight, scale, num_centers)
    _check_margin("arcface_loss", margin, fallback)
    check_loss("arcface_loss", label_smoothing)
    turned = partial(_angular, margin=margin, fallback=fallback)
    return margin_cross_entropy(
        embeddings, labels, weight, turned, scale, num_centers, label_smoothing
    )


def _check_margin(owner: str, margin: float, fallback: Fallback) -> None:
    if not 0 <= margin < math.pi:
        raise fail(
            owner,
            "margin in [0, pi) radians",
            margin,
            "Degrees are turned into radians by math.radians.",
        )
    check_choice(owner, "fallback", fallback, ("linear", "easy"))


def _angular(cosine: Tensor, margin: float, fallback: Fallback) -> tuple[Tensor, Tensor]:
    """Cosine of the angle plus the margin, and its derivative by the cosine."""
    squared_sine = (1 - cosine) * (1 + cosine)
    nonzero = (
        squared_sine > 0
    )  # a root has an infinite slope at 0, and rounding may carry a cosine beyond 1
    sine = torch.where(nonzero, squared_sine, 1.0).sqrt()
    turned = cosine * math.cos(margin) - torch.where(nonzero, sine, 0.0) * math.sin(margin)
    slope = math.cos(margin) + torch.where(nonzero, cosine / sine, 0.0) * math.sin(margin)
    within = cosine > (-math.cos(margin) if fallback == "linear" else 0.0)
    beyond = cosine - margin * math.sin(margin) if fallback == "linear" else cosine
    return torch.where(within, turned, beyond), torch.where(within, slope, 1.0)


class ArcFaceHead(nn.Module):
    """:func:`arcface_logits` with its options held; one parameter, ``weight`` (num_identities * num_centers, dim).

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: In radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: ``"linear"`` or ``"easy"``, where the margin would carry the angle beyond pi.
        num_centers: Centres of an identity; the nearest counts. 3 for noisy labels.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> head = ArcFaceHead(dim=8, num_identities=100)
        >>> images, labels = torch.randn(4, 8), torch.tensor([5, 5, 17, 99])
        >>> loss = torch.nn.functional.cross_entropy(head(images, labels), labels, label_smoothing=0.1)
        >>> head(images).shape  # at test time, without a margin
        torch.Size([4, 100])
    """

    def __init__(
        self,
        dim: int,
        num_identities: int,
        scale: float = 30.0,
        margin: float = 0.5,
        *,
        fallback: Fallback = "linear",
        num_centers: int = 1,
    ) -> None:
        super().__init__()
        for name, value in {
            "dim": dim,
            "num_identities": num_identities,
            "num_centers": num_centers,
        }.items():
            check_integer("ArcFaceHead", name, value, 1)
        check_positive("ArcFaceHead", "scale", scale)
        _check_margin("ArcFaceHead", margin, fallback)
        self.scale = scale
        self.margin = margin
        self.fallback: Fallback = fallback
        self.num_centers = num_centers
        self.weight = nn.Parameter(torch.empty(num_identities * num_centers, dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> Tensor:
        """Logits (N, C): with the margin for ``labels``, plain scaled cosines without."""
        return arcface_logits(
            embeddings,
            labels,
            self.weight,
            scale=self.scale,
            margin=self.margin,
            fallback=self.fallback,
            num_centers=self.num_centers,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        rows, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={rows // self.num_centers}, scale={self.scale}, margin={self.margin}, "
            f"fallback={self.fallback!r}, num_centers={self.num_centers}"
        )


class ArcFaceLoss(nn.Module):
    """:func:`arcface_loss` with its head held: ``loss.head(embeddings)`` gives the logits, ``loss.head.weight`` learns.

    The head's weight has to be in the optimiser: it is a parameter of this module, and not of the model.

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: In radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: ``"linear"`` or ``"easy"``, where the margin would carry the angle beyond pi.
        num_centers: Centres of an identity; the nearest counts.
        label_smoothing: In [0, 1).
        num_sampled: Identities that take part in a training step, those of the batch included: see ``ClassSampler``.
            ``None`` for all. In ``eval`` all take part.
        sparse_grad: With ``num_sampled``, give the weight a sparse gradient: see ``class_rows``.
        seed: With ``num_sampled``, decides together with the step which identities are drawn.
        distributed: Gather embeddings and labels from all ranks first. Every rank holds the whole weight.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> loss = ArcFaceLoss(dim=8, num_identities=1000, num_sampled=100)
        >>> loss(torch.randn(4, 8), torch.tensor([5, 5, 17, 999])).backward()
        >>> int((loss.head.weight.grad != 0).any(dim=1).sum())
        100
    """

    def __init__(
        self,
        dim: int,
        num_identities: int,
        scale: float = 30.0,
        margin: float = 0.5,
        *,
        fallback: Fallback = "linear",
        num_centers: int = 1,
        label_smoothing: float = 0.0,
        num_sampled: int | None = None,
        sparse_grad: bool = False,
        seed: int = 0,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_loss("ArcFaceLoss", label_smoothing, num_sampled, sparse_grad=sparse_grad)
        self.head = ArcFaceHead(
            dim, num_identities, scale, margin, fallback=fallback, num_centers=num_centers
        )
        self.sampler = (
            None if num_sampled is None else ClassSampler(num_identities, num_sampled, seed=seed)
        )
        self.label_smoothing = label_smoothing
        self.sparse_grad = sparse_grad
        self.distributed = distributed

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """See :func:`arcface_loss`."""
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        head = self.head
        weight: Tensor = head.weight
        if self.sampler is not None and self.training:
            classes, labels = self.sampler(labels)
            weight = class_rows(
                weight, classes, num_centers=head.num_centers, sparse_grad=self.sparse_grad
            )
        return arcface_loss(
            embeddings,
            labels,
            weight,
            scale=head.scale,
            margin=head.margin,
            fallback=head.fallback,
            num_centers=head.num_centers,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"label_smoothing={self.label_smoothing}, sparse_grad={self.sparse_grad}, distributed={self.distributed}"
