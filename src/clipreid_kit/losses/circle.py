"""Circle loss on pairs: every similarity is pulled or pushed as far as it is from its optimum."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_positive, fail
from clipreid_kit.losses._anchorwise import anchorwise_loss, check_sides, gather_sides, log_sum


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

    Use it as a triplet loss that takes every pair of the batch, with one margin for positives and negatives. Leave out
    ``contrast`` for one modality; pass the texts for image against text.

    .. math::
        \ell_i = \ln\Big[1 + \sum_{n \in N(i)} e^{\gamma \alpha_n (s_{in} - m)}
            \sum_{p \in P(i)} e^{-\gamma \alpha_p (s_{ip} - 1 + m)}\Big],
        \quad \alpha_n = [s_{in} + m]_+, \quad \alpha_p = [1 + m - s_{ip}]_+

    Args:
        embeddings: Anchors; L2-normalised here.
        labels: Identity of each anchor. In one modality every batch should hold several rows of an identity.
        contrast: Rows that positives and negatives are taken from. ``None`` means ``embeddings`` itself, and then
            (only then) an anchor is not its own positive.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        margin: :math:`m` in (0, 1), in units of cosine similarity: positives shall be above 1 - m, negatives below m.
            The paper has 0.25 for people and faces, 0.4 for birds, cars and products.
        scale: :math:`\gamma > 0`, 1 / temperature; 32 to 256 is usual.

    Returns:
        Mean of :math:`\ell_i` over the anchors that have a positive and a negative. If none has (one row, one
        identity, no positives), zero, still connected to the graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given, or an option is out
            of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> # s_p = 1, s_n = 0, each alpha = m: two negatives at -m m, one positive at -m m: ln(1 + 2 e^-0.5)
        >>> circle_loss(rows, torch.tensor([0, 0, 1, 1]), margin=0.5, scale=1.0)
        tensor(0.7944)

    Note:
        The weights :math:`\alpha` carry no gradient, as in the paper: the slope by :math:`s_{in}` is a softmax weight
        times :math:`\gamma \alpha_n`. Other optima than 1 + m and -m, which the paper does not use, are not offered.

        Anchors of one batch are averaged, as in fast-reid and pytorch-metric-learning, which equals this where every
        anchor has a positive, a negative and a loss above 0. Some codes instead take one logsumexp over all pairs of
        the batch: one term for the whole batch, which its hardest pair decides; that form is not offered.

    References:
        Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, eq. 4 to 8.
    """
    check_sides("circle_loss", embeddings, labels, contrast, contrast_labels)
    _check_options("circle_loss", margin, scale)
    rule = partial(_rule, margin=margin, scale=scale)
    return anchorwise_loss(embeddings, labels, contrast, contrast_labels, rule, "similarity")


def _check_options(owner: str, margin: float, scale: float) -> None:
    if not 0 < margin < 1:
        raise fail(owner, "margin between 0 and 1, in units of cosine similarity", margin)
    check_positive(owner, "scale", scale)


def _rule(
    similarity: Tensor, positive: Tensor, negative: Tensor, *, margin: float, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    pull = (1 + margin - similarity).clamp_(min=0).mul_(scale)  # scale times alpha
    push = (similarity + margin).clamp_(min=0).mul_(scale)
    near, near_share = log_sum(
        (pull * (1 - margin - similarity)).masked_fill_(~positive, -torch.inf)
    )
    far, far_share = log_sum((push * (similarity - margin)).masked_fill_(~negative, -torch.inf))
    valid = (near != -torch.inf) & (far != -torch.inf)
    slope = push.mul_(far_share).sub_(pull.mul_(near_share)).mul_((near + far).sigmoid()[:, None])
    return F.softplus(near + far).sum(), valid.sum(), slope


class CircleLoss(nn.Module):
    """:func:`circle_loss` with its options held; no parameters.

    Args:
        margin: In (0, 1), in units of cosine similarity.
        scale: Above 0, 1 / temperature.
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
        """See :func:`circle_loss`."""
        sides = (embeddings, labels, contrast, contrast_labels)
        return circle_loss(
            *(gather_sides(*sides) if self.distributed else sides),
            margin=self.margin,
            scale=self.scale,
        )

    def extra_repr(self) -> str:
        """Options, for ``print(module)``."""
        return f"margin={self.margin}, scale={self.scale}, distributed={self.distributed}"
