"""CosFace: a classification head with a margin on the cosine, and its loss."""

from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least
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


def cosface_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "m d"],
    *,
    scale: float = 30.0,
    margin: float = 0.35,
    num_centers: int = 1,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """The formula of :func:`cosface_loss` in plain autograd.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 1])
        >>> cosface_definition(rows, labels, torch.eye(2), scale=1.0, margin=1.0)  # ln 2
        tensor(0.6931)
    """
    cosine_NC = nearest_center(cosine_similarity(embeddings, weight), num_centers)
    target_NC = F.one_hot(labels.long(), cosine_NC.shape[1]).to(cosine_NC)
    logits_NC = scale * (cosine_NC - margin * target_NC)
    return F.cross_entropy(logits_NC, labels.long(), label_smoothing=label_smoothing)


def cosface_logits(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None,
    weight: Float[Tensor, "m d"],
    *,
    scale: float = 30.0,
    margin: float = 0.35,
    num_centers: int = 1,
) -> Float[Tensor, "n c"]:
    r"""Scaled cosines to the identities' weights, with a margin subtracted from that of the target.

    Use it to train with any loss of logits. At test time pass ``None`` as labels: then no margin is
    subtracted. It is milder than ArcFace where a row is far from its identity, and as simple as a
    margin can be.

    .. math:: \text{logit}_{ij} = s\,(\cos\theta_{ij} - m\,[j = y_i])

    Args:
        embeddings: Rows of any length; L2-normalised here.
        labels: Identity of each row, in [0, C); ``None`` for cosines without a margin.
        weight: Rows of the identities (C * num_centers, D), of any length; the centers of an
            identity follow each other.
        scale: :math:`s > 0`, which is 1 / temperature; 16 to 64 is usual.
        margin: :math:`m \ge 0` in units of the cosine; 0.2 to 0.4 is usual.
        num_centers: Centers of an identity, of which the nearest counts. 1 is plain CosFace.

    Returns:
        Logits (N, C) in float32, or in float64 if an input is float64; (0, C) for no rows.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 0])
        >>> cosface_logits(rows, labels, torch.eye(2), scale=10.0, margin=0.5)
        tensor([[ 5.,  0.],
                [-5., 10.]])

    References:
        Wang et al., CosFace, CVPR 2018, eq. 4. Wang et al., Additive Margin Softmax, 2018, eq. 6.
    """
    cosine_margin = bind_cosine_margin("cosface_logits", margin)
    return margin_logits(
        "cosface_logits", embeddings, labels, weight, cosine_margin, scale, num_centers
    )


def cosface_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    weight: Float[Tensor, "m d"],
    *,
    scale: float = 30.0,
    margin: float = 0.35,
    num_centers: int = 1,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Cross entropy of :func:`cosface_logits`, with a single (N, C) matrix kept for backward.

    .. math::
        \ell_i = -(1 - \varepsilon) \log p_{i y_i} - \frac{\varepsilon}{C} \sum_j \log p_{ij},
        \qquad p_i = \operatorname{softmax}(\text{logit}_i)

    Args:
        embeddings: Rows of any length; L2-normalised here.
        labels: Identity of each row, in [0, C).
        weight: Rows of the identities (C * num_centers, D), of any length; the centers of an
            identity follow each other.
        scale: :math:`s > 0`; 16 to 64 is usual.
        margin: :math:`m \ge 0` in units of the cosine; 0.2 to 0.4 is usual.
        num_centers: Centers of an identity, of which the nearest counts.
        label_smoothing: :math:`\varepsilon` in [0, 1); 0.1 is usual with plain classifiers, 0 with
            margins.

    Returns:
        Mean over the rows; zero, connected to the graph, for no rows.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 1])
        >>> cosface_loss(rows, labels, torch.eye(2), scale=1.0, margin=1.0)  # ln 2
        tensor(0.6931)

    Relations:
        Equals :func:`cosface_definition`, the formula in a few lines, and
        ``F.cross_entropy(cosface_logits(...), labels, label_smoothing=...)``. Only first
        derivatives exist. With ``margin=0`` it is the normalised softmax.
    """
    cosine_margin = bind_cosine_margin("cosface_loss", margin)

    return margin_cross_entropy(
        "cosface_loss",
        embeddings,
        labels,
        weight,
        cosine_margin,
        scale,
        num_centers,
        label_smoothing,
    )


def bind_cosine_margin(owner: str, margin: float) -> Margin:
    """Check the margin, and bind it."""
    check_at_least(owner, "margin", margin, 0, " (cosine)")
    return partial(_subtract_margin, margin=margin)


def _subtract_margin(cosine: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Cosine less the margin, and its derivative by the cosine."""
    return cosine - margin, torch.ones_like(cosine)


@fixed_options(not_kept=("dim", "num_identities"))
class CosFaceHead(nn.Module):
    """Module of :func:`cosface_logits`; it holds the options and the weight.

    The parameter ``weight`` has the shape (num_identities * num_centers, dim).

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: At least 0, in units of the cosine; 0.2 to 0.4 is usual.
        num_centers: Centers of an identity, of which the nearest counts; 3 for noisy labels.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> head = CosFaceHead(dim=8, num_identities=100)
        >>> images, labels = torch.randn(4, 8), torch.tensor([5, 5, 17, 99])
        >>> loss = F.cross_entropy(head(images, labels), labels)
        >>> head(images).shape  # at test time, without a margin
        torch.Size([4, 100])
    """

    num_centers: Final[int]

    def __init__(
        self,
        dim: int,
        num_identities: int,
        scale: float = 30.0,
        margin: float = 0.35,
        *,
        num_centers: int = 1,
    ) -> None:
        super().__init__()
        check_head_options("CosFaceHead", dim, num_identities, scale, num_centers)
        bind_cosine_margin("CosFaceHead", margin)

        self.scale = scale
        self.margin = margin
        self.num_centers = num_centers
        self.weight = new_head_weight(dim, num_identities, num_centers)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> Tensor:
        """Compute logits (N, C): with the margin if ``labels`` are given, else scaled cosines."""
        return cosface_logits(
            embeddings,
            labels,
            self.weight,
            scale=self.scale,
            margin=self.margin,
            num_centers=self.num_centers,
        )

    def extra_repr(self) -> str:
        """Sizes and options for ``print(module)``."""
        num_rows, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={num_rows // self.num_centers}, scale={self.scale}, "
            f"margin={self.margin}, num_centers={self.num_centers}"
        )


@fixed_options(
    not_kept=("dim", "num_identities", "scale", "margin", "num_centers", "num_sampled", "seed")
)
class CosFaceLoss(nn.Module):
    """Module of :func:`cosface_loss`; it holds its head, a :class:`CosFaceHead`, as ``loss.head``.

    ``loss.head(embeddings)`` returns the logits. Give this module's parameters to the optimiser:
    the weight ``loss.head.weight`` belongs to the loss, and not to the model. To change
    ``scale`` and ``margin`` later, set those of the head.

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: At least 0, in units of the cosine; 0.2 to 0.4 is usual.
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
        >>> loss = CosFaceLoss(dim=8, num_identities=1000, num_sampled=100)
        >>> loss(torch.randn(4, 8), torch.tensor([5, 5, 17, 999])).backward()
        >>> int((loss.head.weight.grad != 0).any(dim=1).sum())
        100
    """

    def __init__(
        self,
        dim: int,
        num_identities: int,
        scale: float = 30.0,
        margin: float = 0.35,
        *,
        num_centers: int = 1,
        label_smoothing: float = 0.0,
        num_sampled: int | None = None,
        sparse_grad: bool = False,
        seed: int = 0,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        owner = "CosFaceLoss"
        check_head_options(owner, dim, num_identities, scale, num_centers)
        bind_cosine_margin(owner, margin)
        check_loss_options(owner, num_identities, label_smoothing, num_sampled, sparse_grad, seed)

        self.head = CosFaceHead(dim, num_identities, scale, margin, num_centers=num_centers)
        self.sampler: ClassSampler | None = None
        if num_sampled is not None:
            self.sampler = ClassSampler(num_identities, num_sampled, seed=seed)

        self.label_smoothing = label_smoothing
        self.sparse_grad = sparse_grad
        self.distributed = distributed

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Compute :func:`cosface_loss`."""
        head = self.head
        embeddings, labels, weight = rows_of_step(
            embeddings,
            labels,
            head.weight,
            sampler=self.sampler if self.training else None,
            num_centers=head.num_centers,
            sparse_grad=self.sparse_grad,
            distributed=self.distributed,
            owner="CosFaceLoss",
            options=(self.extra_repr(), head.extra_repr(), *sampler_options(self.sampler)),
        )

        return cosface_loss(
            embeddings,
            labels,
            weight,
            scale=head.scale,
            margin=head.margin,
            num_centers=head.num_centers,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``; the sizes are those of the head."""
        return (
            f"label_smoothing={self.label_smoothing}, sparse_grad={self.sparse_grad}, "
            f"distributed={self.distributed}"
        )
