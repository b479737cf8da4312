"""ArcFace: a classification head with an angular margin, and its loss."""

import math
from functools import partial
from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_number, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.losses._engine.margin_softmax import (
    Margin,
    margin_cross_entropy,
    margin_logits,
    nearest_center,
)
from clipreid_kit.losses._margin_head import (
    check_head_options,
    check_loss_options,
    new_head_weight,
    rows_of_step,
    sampler_options,
)
from clipreid_kit.losses.class_sampling import ClassSampler

Fallback = Literal["linear", "easy"]


def arcface_definition(
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
    """The formula of :func:`arcface_loss` in plain autograd, with the angle written out.

    Its gradient is not finite at a cosine of 1 or -1, where the slope of the angle is infinite.

    Example:
        >>> rows, weight = torch.eye(2), torch.eye(2)
        >>> arcface_definition(rows, torch.tensor([0, 1]), weight, scale=1.0, margin=math.pi / 2)
        tensor(0.6931)
    """
    cosine_NC = nearest_center(cosine_similarity(embeddings, weight), num_centers)
    angle_NC = cosine_NC.clamp(-1, 1).acos()
    turned_NC = (angle_NC + margin).cos()

    if fallback == "linear":
        linear_NC = cosine_NC - margin * math.sin(margin)
        turned_NC = torch.where(angle_NC + margin < math.pi, turned_NC, linear_NC)
    else:
        turned_NC = torch.where(cosine_NC > 0, turned_NC, cosine_NC)

    target_NC = F.one_hot(labels.long(), cosine_NC.shape[1]).bool()
    logits_NC = scale * torch.where(target_NC, turned_NC, cosine_NC)
    return F.cross_entropy(logits_NC, labels.long(), label_smoothing=label_smoothing)


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
    r"""Scaled cosines to the identities' weights, with an angle added to that of the target.

    Use it to train with any loss of logits. At test time pass ``None`` as labels: then no margin is
    added.

    .. math::
        \text{logit}_{ij} = s \cos(\theta_{ij} + m\,[j = y_i]), \qquad
        \cos(\theta + m) = \cos\theta \cos m - \sqrt{1 - \cos^2\theta}\, \sin m

    Beyond :math:`\theta = \pi - m` the cosine of :math:`\theta + m` would rise again. There
    ``"linear"`` takes :math:`\cos\theta - m \sin m` instead. ``"easy"`` adds the margin only where
    :math:`\cos\theta > 0`, and leaves other targets unchanged.

    Args:
        embeddings: Rows of any length; L2-normalised here.
        labels: Identity of each row, in [0, C); ``None`` for cosines without a margin.
        weight: Rows of the identities (C * num_centers, D), of any length; the centers of an
            identity follow each other.
        scale: :math:`s > 0`, which is 1 / temperature; 16 to 64 is usual.
        margin: :math:`m` in radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: ``"linear"`` or ``"easy"``, where the margin would carry the angle beyond pi.
        num_centers: Centers of an identity, of which the nearest counts (sub-center ArcFace). 1 is
            plain ArcFace.

    Returns:
        Logits (N, C) in float32, or in float64 if an input is float64; (0, C) for no rows.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 0])
        >>> arcface_logits(rows, labels, torch.eye(2), scale=1.0, margin=math.pi / 3)
        tensor([[ 0.5000,  0.0000],
                [-0.8660,  1.0000]])

    Note:
        The angle itself is never computed: ``acos`` has an infinite slope at a cosine of 1, where
        training leads to. So has the root above; its slope counts as 0 exactly there, and no other
        value is changed.

    References:
        Deng et al., ArcFace, CVPR 2019, eq. 3. Deng et al., Sub-center ArcFace, ECCV 2020, eq. 3.
    """
    angular_margin = bind_angular_margin("arcface_logits", margin, fallback)
    return margin_logits(
        "arcface_logits", embeddings, labels, weight, angular_margin, scale, num_centers
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
    r"""Cross entropy of :func:`arcface_logits`, with a single (N, C) matrix kept for backward.

    .. math::
        \ell_i = -(1 - \varepsilon) \log p_{i y_i} - \frac{\varepsilon}{C} \sum_j \log p_{ij},
        \qquad p_i = \operatorname{softmax}(\text{logit}_i)

    Args:
        embeddings: Rows of any length; L2-normalised here.
        labels: Identity of each row, in [0, C).
        weight: Rows of the identities (C * num_centers, D), of any length; the centers of an
            identity follow each other.
        scale: :math:`s > 0`; 16 to 64 is usual.
        margin: :math:`m` in radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: ``"linear"`` or ``"easy"``, where the margin would carry the angle beyond pi.
        num_centers: Centers of an identity, of which the nearest counts.
        label_smoothing: :math:`\varepsilon` in [0, 1); 0.1 is usual with plain classifiers, 0 with
            margins.

    Returns:
        Mean over the rows; zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 1])
        >>> arcface_loss(rows, labels, torch.eye(2), scale=1.0, margin=math.pi / 2)  # ln 2
        tensor(0.6931)

    Relations:
        Equals :func:`arcface_definition`, the formula in a few lines, and
        ``F.cross_entropy(arcface_logits(...), labels, label_smoothing=...)``. Only first
        derivatives exist.
    """
    angular_margin = bind_angular_margin("arcface_loss", margin, fallback)

    return margin_cross_entropy(
        "arcface_loss",
        embeddings,
        labels,
        weight,
        angular_margin,
        scale,
        num_centers,
        label_smoothing,
    )


def bind_angular_margin(owner: str, margin: float, fallback: Fallback) -> Margin:
    """Check the options of the margin, and bind them."""
    check_number(owner, "margin", margin)
    if not 0 <= margin < math.pi:
        remedy = "Convert degrees to radians with math.radians."
        raise fail(owner, "margin in [0, pi) radians", margin, remedy)

    check_choice(owner, "fallback", fallback, ("linear", "easy"))

    return partial(_add_angle, margin=margin, fallback=fallback)


def _add_angle(cosine: Tensor, margin: float, fallback: Fallback) -> tuple[Tensor, Tensor]:
    """Cosine of the angle plus the margin, and its derivative by the cosine."""
    # A root has an infinite slope at 0, and rounding may carry a cosine beyond 1.
    squared_sine = (1 - cosine) * (1 + cosine)
    nonzero = squared_sine > 0
    sine = torch.where(nonzero, squared_sine, 1.0).sqrt()
    cotangent = torch.where(nonzero, cosine / sine, 0.0)
    sine = torch.where(nonzero, sine, 0.0)

    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    slope = math.cos(margin) + cotangent * math.sin(margin)

    if fallback == "linear":
        within = cosine > -math.cos(margin)
        beyond = cosine - margin * math.sin(margin)
    else:
        within = cosine > 0.0
        beyond = cosine

    return torch.where(within, turned, beyond), torch.where(within, slope, 1.0)


@fixed_options(not_kept=("dim", "num_identities"))
class ArcFaceHead(nn.Module):
    """Module of :func:`arcface_logits`; it holds the options and the weight.

    The parameter ``weight`` has the shape (num_identities * num_centers, dim).

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: In radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: ``"linear"`` or ``"easy"``, where the margin would carry the angle beyond pi.
        num_centers: Centers of an identity, of which the nearest counts; 3 for noisy labels.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> head = ArcFaceHead(dim=8, num_identities=100)
        >>> images, labels = torch.randn(4, 8), torch.tensor([5, 5, 17, 99])
        >>> loss = F.cross_entropy(head(images, labels), labels, label_smoothing=0.1)
        >>> head(images).shape  # at test time, without a margin
        torch.Size([4, 100])
    """

    num_centers: Final[int]

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
        check_head_options("ArcFaceHead", dim, num_identities, scale, num_centers)
        bind_angular_margin("ArcFaceHead", margin, fallback)

        self.scale = scale
        self.margin = margin
        self.fallback: Fallback = fallback
        self.num_centers = num_centers
        self.weight = new_head_weight(dim, num_identities, num_centers)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> Tensor:
        """Compute logits (N, C): with the margin if ``labels`` are given, else scaled cosines."""
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
        """Sizes and options for ``print(module)``."""
        num_rows, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={num_rows // self.num_centers}, scale={self.scale}, "
            f"margin={self.margin}, fallback={self.fallback!r}, num_centers={self.num_centers}"
        )


@fixed_options(
    not_kept=(
        "dim",
        "num_identities",
        "scale",
        "margin",
        "fallback",
        "num_centers",
        "num_sampled",
        "seed",
    )
)
class ArcFaceLoss(nn.Module):
    """Module of :func:`arcface_loss`; it holds its head, an :class:`ArcFaceHead`, as ``loss.head``.

    ``loss.head(embeddings)`` returns the logits. Give this module's parameters to the optimiser:
    the weight ``loss.head.weight`` belongs to the loss, and not to the model. To change
    ``scale``, ``margin`` and ``fallback`` later, set those of the head.

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: In radians, in [0, pi); 0.3 to 0.5 is usual.
        fallback: ``"linear"`` or ``"easy"``, where the margin would carry the angle beyond pi.
        num_centers: Centers of an identity, of which the nearest counts.
        label_smoothing: In [0, 1).
        num_sampled: Identities that take part in a training step, those of the batch included: see
            ``ClassSampler``. ``None`` means all. In ``eval`` mode all take part.
        sparse_grad: With ``num_sampled``, give the weight a sparse gradient: see ``class_rows``.
        seed: With ``num_sampled``, decides together with the step which identities are drawn.
        distributed: Gather embeddings and labels from all ranks first. Every rank holds the whole
            weight.

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
        owner = "ArcFaceLoss"
        check_head_options(owner, dim, num_identities, scale, num_centers)
        bind_angular_margin(owner, margin, fallback)
        check_loss_options(owner, num_identities, label_smoothing, num_sampled, sparse_grad, seed)

        self.head = ArcFaceHead(
            dim, num_identities, scale, margin, fallback=fallback, num_centers=num_centers
        )
        self.sampler: ClassSampler | None = None
        if num_sampled is not None:
            self.sampler = ClassSampler(num_identities, num_sampled, seed=seed)

        self.label_smoothing = label_smoothing
        self.sparse_grad = sparse_grad
        self.distributed = distributed

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Compute :func:`arcface_loss`."""
        head = self.head
        embeddings, labels, weight = rows_of_step(
            embeddings,
            labels,
            head.weight,
            sampler=self.sampler if self.training else None,
            num_centers=head.num_centers,
            sparse_grad=self.sparse_grad,
            distributed=self.distributed,
            owner="ArcFaceLoss",
            options=(self.extra_repr(), head.extra_repr(), *sampler_options(self.sampler)),
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
        """Options for ``print(module)``; the sizes are those of the head."""
        return (
            f"label_smoothing={self.label_smoothing}, sparse_grad={self.sparse_grad}, "
            f"distributed={self.distributed}"
        )
