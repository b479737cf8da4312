"""Circle-softmax: a classification head whose logits weigh by their distance from the optimum."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_number, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.losses._engine.margin_softmax import check_head_inputs
from clipreid_kit.losses._margin_head import check_head_options, new_head_weight


def circle_softmax_logits(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"] | None,
    weight: Float[Tensor, "c d"],
    *,
    scale: float = 256.0,
    margin: float = 0.25,
) -> Float[Tensor, "n c"]:
    r"""Logits of the circle loss with class-level labels: every cosine weighs by what it lacks.

    Use it in place of ArcFace or CosFace, with any loss of logits. Its one margin is that of the
    target and of all others: the target should be above 1 - m, the others below m. Cosines that are
    far from there have a larger slope. At test time pass ``None`` as labels: then the logits are
    the scaled cosines.

    .. math::
        z_{i y_i} = \gamma\, [1 + m - s_{i y_i}]_+ (s_{i y_i} - 1 + m), \qquad
        z_{ij} = \gamma\, [s_{ij} + m]_+ (s_{ij} - m) \quad (j \ne y_i)

    Args:
        embeddings: Rows of any length; L2-normalised here.
        labels: Identity of each row, in [0, C); ``None`` for scaled cosines.
        weight: Rows of the identities, of any length.
        scale: :math:`\gamma > 0`; 64 to 256 is usual.
        margin: :math:`m` in (0, 1), in units of cosine similarity; 0.25 in the paper, 0.35 is usual
            for people.

    Returns:
        Logits (N, C) in float32, or in float64 if an input is float64; (0, C) for no rows.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Example:
        >>> rows, labels = torch.eye(2), torch.tensor([0, 1])
        >>> # each target: 1 x 0.5 x 0.5; each other: 1 x 0.5 x -0.5
        >>> circle_softmax_logits(rows, labels, torch.eye(2), scale=1.0, margin=0.5)
        tensor([[ 0.2500, -0.2500],
                [-0.2500,  0.2500]])

    Relations:
        Its cross entropy is :func:`circle_loss` with the identities' weights as contrast: one
        positive, C - 1 negatives.

    Note:
        The factors in brackets carry no gradient, as in the paper.

    References:
        Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020,
        section 3.
    """
    owner = "circle_softmax_logits"
    check_head_inputs(owner, embeddings, labels, weight, scale, num_centers=1)
    _check_margin(owner, margin)

    with torch.autocast(embeddings.device.type, enabled=False):
        cosine_NC = cosine_similarity(embeddings, weight)
        if labels is None:
            return scale * cosine_NC

        target_N1 = labels.long()[:, None]
        near_N1 = cosine_NC.gather(1, target_N1)
        pull_N1 = (1 + margin - near_N1).clamp(min=0).detach()
        push_NC = (cosine_NC + margin).clamp(min=0).detach()

        logits_NC = scale * push_NC * (cosine_NC - margin)
        return logits_NC.scatter(1, target_N1, scale * pull_N1 * (near_N1 - (1 - margin)))


def _check_margin(owner: str, margin: float) -> None:
    check_number(owner, "margin", margin)
    if not 0 < margin < 1:
        raise fail(owner, "margin between 0 and 1, in units of cosine similarity", margin)


@fixed_options(not_kept=("dim", "num_identities"))
class CircleSoftmaxHead(nn.Module):
    """Module of :func:`circle_softmax_logits`; it holds the options and the weight.

    The parameter ``weight`` has the shape (num_identities, dim).

    Args:
        dim: Width D of the embeddings.
        num_identities: Number of identities C.
        scale: Above 0; 64 to 256 is usual.
        margin: In (0, 1), in units of cosine similarity.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> head = CircleSoftmaxHead(dim=8, num_identities=100)
        >>> images, labels = torch.randn(4, 8), torch.tensor([5, 5, 17, 99])
        >>> loss = torch.nn.functional.cross_entropy(head(images, labels), labels)
        >>> head(images).shape  # at test time, scaled cosines
        torch.Size([4, 100])
    """

    def __init__(
        self, dim: int, num_identities: int, scale: float = 256.0, margin: float = 0.25
    ) -> None:
        super().__init__()
        check_head_options("CircleSoftmaxHead", dim, num_identities, scale, num_centers=1)
        _check_margin("CircleSoftmaxHead", margin)

        self.scale = scale
        self.margin = margin
        self.weight = new_head_weight(dim, num_identities, num_centers=1)

    def forward(
        self, embeddings: Float[Tensor, "n d"], labels: Integer[Tensor, " n"] | None = None
    ) -> Tensor:
        """Compute logits (N, C): weighted if ``labels`` are given, else scaled cosines."""
        return circle_softmax_logits(
            embeddings, labels, self.weight, scale=self.scale, margin=self.margin
        )

    def extra_repr(self) -> str:
        """Sizes and options for ``print(module)``."""
        num_identities, dim = self.weight.shape
        return (
            f"dim={dim}, num_identities={num_identities}, scale={self.scale}, margin={self.margin}"
        )
