"""Multi-similarity loss, with its mining of pairs."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_number, check_positive, fail
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import (
    BlockLoss,
    anchorwise_loss,
    logsumexp_and_softmax,
)
from clipreid_kit.losses._engine.contrast_set import masks_of_pairs


def multi_similarity_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    positive_scale: float = 2.0,
    negative_scale: float = 50.0,
    threshold: float = 0.5,
    epsilon: float | None = 0.1,
) -> Float[Tensor, ""]:
    """The formula of :func:`multi_similarity_loss` in plain autograd.

    The whole (N, M) matrix is in memory.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> labels, options = torch.tensor([0, 0, 1, 1]), {"positive_scale": 1, "negative_scale": 1}
        >>> multi_similarity_definition(rows, labels, threshold=0, **options)
        tensor(2.2446)
    """
    cosine_NM = cosine_similarity(embeddings, embeddings if contrast is None else contrast)
    positive_NM, negative_NM = masks_of_pairs(labels, contrast_labels)
    valid_N = positive_NM.any(dim=1) & negative_NM.any(dim=1)

    if epsilon is not None:
        positives_NM = cosine_NM.masked_fill(~positive_NM, torch.inf)
        negatives_NM = cosine_NM.masked_fill(~negative_NM, -torch.inf)
        positive_NM = positives_NM < negatives_NM.amax(dim=1, keepdim=True) + epsilon
        negative_NM = negatives_NM > positives_NM.amin(dim=1, keepdim=True) - epsilon

    near_NM = torch.exp(-positive_scale * (cosine_NM - threshold))
    far_NM = torch.exp(negative_scale * (cosine_NM - threshold))
    pull_N = torch.where(positive_NM, near_NM, 0.0).sum(dim=1).log1p() / positive_scale
    push_N = torch.where(negative_NM, far_NM, 0.0).sum(dim=1).log1p() / negative_scale

    return (pull_N + push_N)[valid_N].sum() / valid_N.sum().clamp(min=1)


def multi_similarity_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    positive_scale: float = 2.0,
    negative_scale: float = 50.0,
    threshold: float = 0.5,
    epsilon: float | None = 0.1,
) -> Float[Tensor, ""]:
    r"""Multi-similarity loss: pairs are mined and weighted by all similarities of the anchor.

    Use it in place of a triplet loss where no single hardest pair should decide. Leave out
    ``contrast`` for one modality; pass the texts for image against text.

    .. math::
        \ell_i = \frac{1}{\alpha} \ln\Big[1 + \sum_{p \in P(i)} e^{-\alpha (s_{ip} - \lambda)}\Big]
            + \frac{1}{\beta} \ln\Big[1 + \sum_{n \in N(i)} e^{\beta (s_{in} - \lambda)}\Big]

    A negative is in :math:`N(i)` if its similarity is above that of the least similar positive
    minus :math:`\epsilon`. A positive is in :math:`P(i)` if its similarity is below that of the
    most similar negative plus :math:`\epsilon`.

    Args:
        embeddings: Anchors; L2-normalised here.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an
            identity.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings``
            itself, and then (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        positive_scale: :math:`\alpha > 0`, how sharply the least similar positives are singled out.
        negative_scale: :math:`\beta > 0`, how sharply the most similar negatives are singled out;
            40 to 50 is usual.
        threshold: :math:`\lambda` in [-1, 1], a cosine similarity between those of positives and
            those of negatives.
        epsilon: Slack of the mining, at least 0, in units of cosine similarity; ``None`` uses every
            pair.

    Returns:
        Mean of :math:`\ell_i` over the anchors that have a positive and a negative. An anchor whose
        pairs are all mined away counts, with 0. Without any such anchor (one row, one identity, no
        positives) it is zero, connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given,
            or an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> # the positive at 0, the negatives at 1 and 0: ln(1 + 1) + ln(1 + e + 1)
        >>> labels, options = torch.tensor([0, 0, 1, 1]), {"positive_scale": 1, "negative_scale": 1}
        >>> multi_similarity_loss(rows, labels, threshold=0, **options)
        tensor(2.2446)

    Relations:
        Equals :func:`multi_similarity_definition`, the formula in a few lines, and
        pytorch-metric-learning's loss after its ``MultiSimilarityMiner`` where every anchor has a
        positive and a negative. There an anchor without one still counts in the mean, with 0.

    References:
        Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
        CVPR 2019, eq. 10, 11 and 15.
    """
    owner = "multi_similarity_loss"
    _check_options(owner, positive_scale, negative_scale, threshold, epsilon)

    # Two cosines differ by 2 at most, so a slack of 4 takes every pair.
    rule = partial(
        _multi_similarity_rule,
        positive_scale=positive_scale,
        negative_scale=negative_scale,
        threshold=threshold,
        epsilon=4.0 if epsilon is None else epsilon,
    )
    return anchorwise_loss(owner, embeddings, labels, contrast, contrast_labels, rule, "similarity")


def _check_options(
    owner: str,
    positive_scale: float,
    negative_scale: float,
    threshold: float,
    epsilon: float | None,
) -> None:
    check_positive(owner, "positive_scale", positive_scale)
    check_positive(owner, "negative_scale", negative_scale)

    check_number(owner, "threshold", threshold)
    if not -1 <= threshold <= 1:
        raise fail(owner, "threshold between -1 and 1, a cosine similarity", threshold)

    if epsilon is not None:
        check_at_least(owner, "epsilon", epsilon, 0, " (None takes every pair)")


def _multi_similarity_rule(
    similarity_BM: Tensor,
    positive_BM: Tensor,
    negative_BM: Tensor,
    *,
    positive_scale: float,
    negative_scale: float,
    threshold: float,
    epsilon: float,
) -> BlockLoss:
    near_BM = similarity_BM.masked_fill(~positive_BM, torch.inf)
    far_BM = similarity_BM.masked_fill(~negative_BM, -torch.inf)
    least_B1 = near_BM.amin(dim=1, keepdim=True)
    most_B1 = far_BM.amax(dim=1, keepdim=True)
    valid_B1 = (least_B1 != torch.inf) & (most_B1 != -torch.inf)

    # Without a positive the least is inf, so no negative is mined, and the other way round.
    near_BM.masked_fill_(near_BM >= most_B1 + epsilon, torch.inf)
    far_BM.masked_fill_(far_BM <= least_B1 - epsilon, -torch.inf)

    pull_B, pull_softmax_BM = logsumexp_and_softmax(near_BM.sub_(threshold).mul_(-positive_scale))
    push_B, push_softmax_BM = logsumexp_and_softmax(far_BM.sub_(threshold).mul_(negative_scale))
    loss_B = F.softplus(pull_B) / positive_scale + F.softplus(push_B) / negative_scale

    slope_BM = push_softmax_BM.mul_(push_B.sigmoid()[:, None])
    slope_BM.sub_(pull_softmax_BM.mul_(pull_B.sigmoid()[:, None]))

    return BlockLoss(loss_B.sum(), valid_B1.sum(), slope_BM)


class MultiSimilarityLoss(nn.Module):
    """Module of :func:`multi_similarity_loss`; it holds the options and has no parameters.

    Args:
        positive_scale: Above 0.
        negative_scale: Above 0.
        threshold: In [-1, 1], a cosine similarity.
        epsilon: At least 0, in units of cosine similarity; ``None`` uses every pair.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> MultiSimilarityLoss(1.0, 1.0, 0.0)(rows, torch.tensor([0, 0, 1, 1]))
        tensor(2.2446)
    """

    def __init__(
        self,
        positive_scale: float = 2.0,
        negative_scale: float = 50.0,
        threshold: float = 0.5,
        *,
        epsilon: float | None = 0.1,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options("MultiSimilarityLoss", positive_scale, negative_scale, threshold, epsilon)

        self.positive_scale = positive_scale
        self.negative_scale = negative_scale
        self.threshold = threshold
        self.epsilon = epsilon
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute :func:`multi_similarity_loss`."""
        sides: tuple[Any, ...] = (embeddings, labels, contrast, contrast_labels)
        if self.distributed:
            sides = gather_batch("MultiSimilarityLoss", *sides, options=(self.extra_repr(),))

        return multi_similarity_loss(
            *sides,
            positive_scale=self.positive_scale,
            negative_scale=self.negative_scale,
            threshold=self.threshold,
            epsilon=self.epsilon,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"positive_scale={self.positive_scale}, negative_scale={self.negative_scale}, "
            f"threshold={self.threshold}, epsilon={self.epsilon}, distributed={self.distributed}"
        )
