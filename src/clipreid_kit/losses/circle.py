"""Circle loss on pairs: each similarity is weighted by its distance from its optimum."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_number, check_positive, fail
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import (
    BlockLoss,
    anchorwise_loss,
    logsumexp_and_softmax,
)
from clipreid_kit.losses._engine.contrast_set import masks_of_pairs


def circle_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    margin: float = 0.25,
    scale: float = 128.0,
) -> Float[Tensor, ""]:
    """The formula of :func:`circle_loss` in plain autograd, with the whole (N, M) matrix in memory.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> circle_definition(rows, torch.tensor([0, 0, 1, 1]), margin=0.5, scale=1.0)
        tensor(0.7944)
    """
    cosine_NM = cosine_similarity(embeddings, embeddings if contrast is None else contrast)
    positive_NM, negative_NM = masks_of_pairs(labels, contrast_labels)

    # The weights carry no gradient.
    pull_NM = (1 + margin - cosine_NM).clamp(min=0).detach()
    push_NM = (cosine_NM + margin).clamp(min=0).detach()
    near_NM = -scale * pull_NM * (cosine_NM - (1 - margin))
    far_NM = scale * push_NM * (cosine_NM - margin)

    valid_N = positive_NM.any(dim=1) & negative_NM.any(dim=1)
    near_N = near_NM.masked_fill(~positive_NM, -torch.inf)[valid_N].logsumexp(dim=1)
    far_N = far_NM.masked_fill(~negative_NM, -torch.inf)[valid_N].logsumexp(dim=1)

    return F.softplus(near_N + far_N).sum() / valid_N.sum().clamp(min=1)


def circle_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    margin: float = 0.25,
    scale: float = 128.0,
) -> Float[Tensor, ""]:
    r"""Circle loss with pair-wise labels: similarities far from their optimum weigh more.

    Use it in place of a triplet loss to use every pair of the batch, with one margin for positives
    and negatives. Leave out ``contrast`` for one modality; pass the texts for image against text.

    .. math::
        \ell_i = \ln\Big[1 + \sum_{n \in N(i)} e^{\gamma \alpha_n (s_{in} - m)}
            \sum_{p \in P(i)} e^{-\gamma \alpha_p (s_{ip} - 1 + m)}\Big],
        \quad \alpha_n = [s_{in} + m]_+, \quad \alpha_p = [1 + m - s_{ip}]_+

    Args:
        embeddings: Anchors; L2-normalised here.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an
            identity.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings``
            itself, and then (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        margin: :math:`m` in (0, 1), in units of cosine similarity: positives should be above 1 - m,
            negatives below m. The paper uses 0.25 for people and faces, 0.4 for birds, cars and
            products.
        scale: :math:`\gamma > 0`, which is 1 / temperature; 32 to 256 is usual.

    Returns:
        Mean of :math:`\ell_i` over the anchors that have a positive and a negative. If none has
        (one row, one identity, no positives), zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given,
            or an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> # s_p = 1, s_n = 0, each alpha = m: two negatives and one positive, each with the
        >>> # exponent -m m, so ln(1 + 2 e^-0.5)
        >>> circle_loss(rows, torch.tensor([0, 0, 1, 1]), margin=0.5, scale=1.0)
        tensor(0.7944)

    Relations:
        Equals :func:`circle_definition`, the formula in a few lines.

    Note:
        The weights :math:`\alpha` carry no gradient, as in the paper: the slope by :math:`s_{in}`
        is a softmax weight times :math:`\gamma \alpha_n`. Optima other than 1 + m and -m, which the
        paper does not use, are not offered.

        The anchors of a batch are averaged, as in fast-reid and pytorch-metric-learning; the result
        is the same where every anchor has a positive, a negative and a loss above 0. Some codes
        instead take one logsumexp over all pairs of the batch, a single term that the hardest pair
        decides; that form is not offered.

    References:
        Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020,
        eq. 4 to 8.
    """
    _check_options("circle_loss", margin, scale)
    rule = partial(_circle_rule, margin=margin, scale=scale)

    return anchorwise_loss(
        "circle_loss", embeddings, labels, contrast, contrast_labels, rule, "similarity"
    )


def _check_options(owner: str, margin: float, scale: float) -> None:
    check_number(owner, "margin", margin)
    if not 0 < margin < 1:
        raise fail(owner, "margin between 0 and 1, in units of cosine similarity", margin)
    check_positive(owner, "scale", scale)


def _circle_rule(
    similarity_BM: Tensor, positive_BM: Tensor, negative_BM: Tensor, *, margin: float, scale: float
) -> BlockLoss:
    # Scale times alpha.
    pull_BM = (1 + margin - similarity_BM).clamp_(min=0).mul_(scale)
    push_BM = (similarity_BM + margin).clamp_(min=0).mul_(scale)

    near_BM = (pull_BM * (1 - margin - similarity_BM)).masked_fill_(~positive_BM, -torch.inf)
    far_BM = (push_BM * (similarity_BM - margin)).masked_fill_(~negative_BM, -torch.inf)
    near_B, near_softmax_BM = logsumexp_and_softmax(near_BM)
    far_B, far_softmax_BM = logsumexp_and_softmax(far_BM)

    loss_B = F.softplus(near_B + far_B)
    valid_B = (near_B != -torch.inf) & (far_B != -torch.inf)

    slope_BM = push_BM.mul_(far_softmax_BM).sub_(pull_BM.mul_(near_softmax_BM))
    slope_BM.mul_((near_B + far_B).sigmoid()[:, None])

    return BlockLoss(loss_B.sum(), valid_B.sum(), slope_BM)


class CircleLoss(nn.Module):
    """Module of :func:`circle_loss`; it holds the options and has no parameters.

    Args:
        margin: In (0, 1), in units of cosine similarity.
        scale: Above 0; 1 / temperature.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> CircleLoss(margin=0.5, scale=1.0)(rows, torch.tensor([0, 0, 1, 1]))
        tensor(0.7944)
    """

    def __init__(
        self, margin: float = 0.25, scale: float = 128.0, *, distributed: bool = False
    ) -> None:
        super().__init__()
        _check_options("CircleLoss", margin, scale)

        self.margin = margin
        self.scale = scale
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute :func:`circle_loss`."""
        sides: tuple[Any, ...] = (embeddings, labels, contrast, contrast_labels)
        if self.distributed:
            sides = gather_batch("CircleLoss", *sides, options=(self.extra_repr(),))
        return circle_loss(*sides, margin=self.margin, scale=self.scale)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return f"margin={self.margin}, scale={self.scale}, distributed={self.distributed}"
