"""Multi-similarity loss, with its mining of pairs."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_positive, fail
from clipreid_kit.losses._anchorwise import anchorwise_loss, check_sides, gather_sides, log_sum


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
    r"""Multi-similarity loss: pairs are mined by, and weighed with, the similarities of all pairs of the anchor.

    Use it as a triplet loss without a hardest pair. Leave out ``contrast`` for one modality; pass the texts for image
    against text.

    .. math::
        \ell_i = \frac{1}{\alpha} \ln\Big[1 + \sum_{p \in P(i)} e^{-\alpha (s_{ip} - \lambda)}\Big]
            + \frac{1}{\beta} \ln\Big[1 + \sum_{n \in N(i)} e^{\beta (s_{in} - \lambda)}\Big]

    A negative is in :math:`N(i)` if its similarity is above that of the least similar positive less
    :math:`\epsilon`; a positive is in :math:`P(i)` if its similarity is below that of the most similar negative plus
    :math:`\epsilon`.

    Args:
        embeddings: Anchors; L2-normalised here.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an identity.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings`` itself, and then
            (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        positive_scale: :math:`\alpha > 0`, how sharply the least similar positives are singled out.
        negative_scale: :math:`\beta > 0`, how sharply the most similar negatives are singled out; 40 to 50 is usual.
        threshold: :math:`\lambda` in [-1, 1], a cosine similarity between those of positives and of negatives.
        epsilon: Slack of the mining, at least 0, in units of cosine similarity; ``None`` takes every pair.

    Returns:
        Mean of :math:`\ell_i` over the anchors that have a positive and a negative; such an anchor with no pair left
        by the mining counts, with 0. If there is no such anchor (one row, one identity, no positives), zero, still
        connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given, or an option is out
            of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> # the positive at 0, the negatives at 1 and 0: ln(1 + 1) + ln(1 + e + 1)
        >>> labels, options = torch.tensor([0, 0, 1, 1]), {"positive_scale": 1.0, "negative_scale": 1.0}
        >>> multi_similarity_loss(rows, labels, threshold=0.0, **options)
        tensor(2.2446)

    Note:
        Equals pytorch-metric-learning's loss after its ``MultiSimilarityMiner`` where every anchor has a positive and
        a negative; there an anchor without still counts in the mean, with 0.

    References:
        Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, CVPR 2019, eq. 10, 11
        and 15.
    """
    check_sides("multi_similarity_loss", embeddings, labels, contrast, contrast_labels)
    _check_options("multi_similarity_loss", positive_scale, negative_scale, threshold, epsilon)
    rule = partial(
        _rule,
        positive_scale=positive_scale,
        negative_scale=negative_scale,
        threshold=threshold,
        epsilon=4.0 if epsilon is None else epsilon,  # no two cosines are that far apart
    )
    return anchorwise_loss(embeddings, labels, contrast, contrast_labels, rule, "similarity")


def _check_options(
    owner: str,
    positive_scale: float,
    negative_scale: float,
    threshold: float,
    epsilon: float | None,
) -> None:
    check_positive(owner, "positive_scale", positive_scale)
    check_positive(owner, "negative_scale", negative_scale)
    if not -1 <= threshold <= 1:
        raise fail(owner, "threshold between -1 and 1, a cosine similarity", threshold)
    if epsilon is not None:
        check_at_least(owner, "epsilon", epsilon, 0, " (None takes every pair)")


def _rule(
    similarity: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    positive_scale: float,
    negative_scale: float,
    threshold: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    near, far = (
        similarity.masked_fill(~positive, torch.inf),
        similarity.masked_fill(~negative, -torch.inf),
    )
    least, most = near.amin(dim=1, keepdim=True), far.amax(dim=1, keepdim=True)
    # where there is no positive the least is inf and no negative passes, and the other way round
    near.masked_fill_(near >= most + epsilon, torch.inf)
    far.masked_fill_(far <= least - epsilon, -torch.inf)
    pull, pull_share = log_sum(near.sub_(threshold).mul_(-positive_scale))
    push, push_share = log_sum(far.sub_(threshold).mul_(negative_scale))
    total = (F.softplus(pull) / positive_scale + F.softplus(push) / negative_scale).sum()
    slope = push_share.mul_(push.sigmoid()[:, None]).sub_(pull_share.mul_(pull.sigmoid()[:, None]))
    return total, ((least != torch.inf) & (most != -torch.inf)).sum(), slope


class MultiSimilarityLoss(nn.Module):
    """:func:`multi_similarity_loss` with its options held; no parameters.

    Args:
        positive_scale: Above 0.
        negative_scale: Above 0.
        threshold: In [-1, 1], a cosine similarity.
        epsilon: At least 0, in units of cosine similarity; ``None`` takes every pair.
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
        """See :func:`multi_similarity_loss`."""
        sides = (embeddings, labels, contrast, contrast_labels)
        return multi_similarity_loss(
            *(gather_sides(*sides) if self.distributed else sides),
            positive_scale=self.positive_scale,
            negative_scale=self.negative_scale,
            threshold=self.threshold,
            epsilon=self.epsilon,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return (
            f"positive_scale={self.positive_scale}, negative_scale={self.negative_scale}, "
            f"threshold={self.threshold}, epsilon={self.epsilon}, distributed={self.distributed}"
        )
