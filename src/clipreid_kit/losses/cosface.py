"""CosFace: a classification head with a margin on the cosine, and its loss."""

from functools import partial

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_integer, check_positive
from clipreid_kit.distributed import gather
from clipreid_kit.losses._cosine_softmax import (
    check_head,
    check_loss,
    margin_cross_entropy,
    margin_logits,
)
from clipreid_kit.losses.class_sampling import ClassSampler, class_rows


def cosface_logits(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None,
    weight: Float[Tensor, "m d"],
    *,
    scale: float = 30.0,
    margin: float = 0.35,
    num_centers: int = 1,
) -> Float[Tensor, "n c"]:
    r"""Scaled cosines to the identities' weights, with a margin taken off the target's.

    For training with any loss of logits. Leave the labels out (``None``) at test time: then no margin is taken off.
    Milder than ArcFace where a row is far from its identity, and as simple as a margin can be.

    .. math:: \text{logit}_{ij} = s\,(\cos\theta_{ij} - m\,[j = y_i])

    Args:
        embeddings: Rows of any scale; L2-normalised here.
        labels: Identity of each row, in [0, C); ``None`` for cosines without a margin.
        weight: Row(s) of each identity, of any scale: (C * num_centers, D), the centres of an identity together.
        scale: :math:`s > 0`; 16 to 64 is usual. It is 1 / temperature.
        margin: :math:`m \ge 0` in units of the cosine; 0.2 to 0.4 is usual.
        num_centers: Centres of an identity; the nearest counts. 1 is plain CosFace.

    Returns:
        Logits (N, C) in float32, or float64 where an input is; no rows give no logits.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> cosface_logits(torch.eye(2), torch.tensor([0, 0]), torch.eye(2), scale=10.0, margin=0.5)
        tensor([[ 5.,  0.],
                [-5., 10.]])

    References:
        Wang et al., CosFace, CVPR 2018, eq. 4. Wang et al., Additive Margin Softmax, 2018, eq. 6.
    """
    check_head("cosface_logits", embeddings, labels, weight, scale, num_centers)
    check_at_least("cosface_logits", "margin", margin, 0, " (cosine)")
    return margin_logits(
        embeddings, labels, weight, partial(_additive, margin=margin), scale, num_centers
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
    r"""Cross entropy of :func:`cosface_logits`, without the logits: one matrix (N, C) is held for the backward pass.

    .. math::
        \ell_i = -(1 - \varepsilon) \log p_{i y_i} - \frac{\varepsilon}{C} \sum_j \log p_{ij}, \qquad
        p_i = \operatorname{softmax}(\text{logit}_i)

    Args:
        embeddings: Rows of any scale; L2-normalised here.
        labels: Identity of each row, in [0, C).
        weight: Row(s) of each identity, of any scale: (C * num_centers, D), the centres of an identity together.
        scale: :math:`s > 0`; 16 to 64 is usual.
        margin: :math:`m \ge 0` in units of the cosine; 0.2 to 0.4 is usual.
        num_centers: Centres of an identity; the nearest counts.
        label_smoothing: :math:`\varepsilon` in [0, 1); 0.1 is usual with plain classifiers, 0 with margins.

    Returns:
        Mean over the rows; without rows zero, still connected to the graph.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> cosface_loss(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), scale=1.0, margin=1.0)  # ln 2
        tensor(0.6931)

    Relations:
        Equals ``F.cross_entropy(cosface_logits(...), labels, label_smoothing=...)``. Its gradient is written out, and
        has no second derivative. With ``margin=0`` it is the normalised softmax.
    """
    check_head("cosface_loss", embeddings, labels, weight, scale, num_centers)
    check_at_least("cosface_loss", "margin", margin, 0, " (cosine)")
    check_loss("cosface_loss", label_smoothing)
    lowered = partial(_additive, margin=margin)
    return margin_cross_entropy(
        embeddings, labels, weight, lowered, scale, num_centers, label_smoothing
    )


def _additive(cosine: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Cosine less the margin, and its derivative by the cosine."""
    return cosine - margin, torch.ones_like(cosine)


class CosFaceHead(nn.Module):
    """:func:`cosface_logits` with its options held; one parameter, ``weight`` (num_identities * num_centers, dim).

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: At least 0, in units of the cosine; 0.2 to 0.4 is usual.
        num_centers: Centres of an identity; the nearest counts. 3 for noisy labels.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> head = CosFaceHead(dim=8, num_identities=100)
        >>> images, labels = torch.randn(4, 8), torch.tensor([5, 5, 17, 99])
        >>> loss = torch.nn.functional.cross_entropy(head(images, labels), labels)
        >>> head(images).shape  # at test time, without a margin
        torch.Size([4, 100])
    """

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
        for name, value in {
            "dim": dim,
            "num_identities": num_identities,
            "num_centers": num_centers,
        }.items():
            check_integer("CosFaceHead", name, value, 1)
        check_positive("CosFaceHead", "scale", scale)
        check_at_least("CosFaceHead", "margin", margin, 0, " (cosine)")
        self.scale = scale
        self.margin = margin
        self.num_centers = num_centers
        self.weight = nn.Parameter(torch.empty(num_identities * num_centers, dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> Tensor:
        """Logits (N, C): with the margin for ``labels``, plain scaled cosines without."""
        return cosface_logits(
            embeddings,
            labels,
            self.weight,
            scale=self.scale,
            margin=self.margin,
            num_centers=self.num_centers,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        rows, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={rows // self.num_centers}, scale={self.scale}, margin={self.margin}, "
            f"num_centers={self.num_centers}"
        )


class CosFaceLoss(nn.Module):
    """:func:`cosface_loss` with its head held: ``loss.head(embeddings)`` gives the logits, ``loss.head.weight`` learns.

    The head's weight has to be in the optimiser: it is a parameter of this module, and not of the model.

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 16 to 64 is usual.
        margin: At least 0, in units of the cosine; 0.2 to 0.4 is usual.
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
        check_loss("CosFaceLoss", label_smoothing, num_sampled, sparse_grad=sparse_grad)
        self.head = CosFaceHead(dim, num_identities, scale, margin, num_centers=num_centers)
        self.sampler = (
            None if num_sampled is None else ClassSampler(num_identities, num_sampled, seed=seed)
        )
        self.label_smoothing = label_smoothing
        self.sparse_grad = sparse_grad
        self.distributed = distributed

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """See :func:`cosface_loss`."""
        if self.distributed:
            embeddings, labels = gather(embeddings), gather(labels)
        head = self.head
        weight: Tensor = head.weight
        if self.sampler is not None and self.training:
            classes, labels = self.sampler(labels)
            weight = class_rows(
                weight, classes, num_centers=head.num_centers, sparse_grad=self.sparse_grad
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
        """Options, for ``print(module)``."""
        return f"label_smoothing={self.label_smoothing}, sparse_grad={self.sparse_grad}, distributed={self.distributed}"
