"""Smooth-AP: average precision with a sigmoid in the place of each comparison of two ranks."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_positive
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import anchorwise_loss
from clipreid_kit.losses._engine.contrast_set import masks_of_pairs
from clipreid_kit.losses._engine.smooth_ranks import RankScore, smooth_rank_rule


def smooth_ap_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float = 0.01,
) -> Float[Tensor, ""]:
    """The formula of :func:`smooth_ap_loss` in plain autograd, with N x M x M numbers in memory.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> smooth_ap_definition(rows, torch.tensor([0, 0, 1]))  # second, and a tie
        tensor(0.4167)
    """
    cosine_NM = cosine_similarity(embeddings, embeddings if contrast is None else contrast)
    positive_NM, negative_NM = masks_of_pairs(labels, contrast_labels)

    # How far candidate j is above candidate i, for each anchor.
    above_NMM = ((cosine_NM[:, None, :] - cosine_NM[:, :, None]) / temperature).sigmoid()
    itself_MM = torch.eye(cosine_NM.shape[1], dtype=torch.bool, device=cosine_NM.device)
    positives_above_NM = (above_NMM * (positive_NM[:, None, :] & ~itself_MM)).sum(dim=2)
    negatives_above_NM = (above_NMM * negative_NM[:, None, :]).sum(dim=2)

    precision_NM = (1 + positives_above_NM) / (1 + positives_above_NM + negatives_above_NM)
    num_positives_N = positive_NM.sum(dim=1)
    ap_N = (precision_NM * positive_NM).sum(dim=1) / num_positives_N.clamp(min=1)

    has_positive_N = num_positives_N > 0
    return torch.where(has_positive_N, 1 - ap_N, 0.0).sum() / has_positive_N.sum().clamp(min=1)


def smooth_ap_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    temperature: float = 0.01,
) -> Float[Tensor, ""]:
    r"""Smooth-AP: one minus the average precision of each anchor, made differentiable.

    Use it to fine-tune a model that ranks well already for what it is scored by: a pair that is far
    from its neighbours in the ranking has no gradient. Batches should be large and hold several
    rows of an identity.

    .. math::
        L = \frac{1}{N} \sum_a \Big( 1 - \frac{1}{|P|} \sum_{i \in P}
            \frac{1 + \sum_{j \in P, j \ne i} G(s_j - s_i)}
            {1 + \sum_{j \in P, j \ne i} G(s_j - s_i) + \sum_{j \in N} G(s_j - s_i)} \Big), \qquad
        G(x) = \frac{1}{1 + e^{-x / \tau}}

    with the cosines :math:`s` of the candidates to the anchor, its positives :math:`P` and its
    negatives :math:`N`.

    Args:
        embeddings: Anchors; L2-normalised here.
        labels: Identity of each anchor.
        contrast: Rows that are ranked for each anchor. ``None`` means ``embeddings`` itself, and
            then (only then) an anchor is not ranked for itself.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        temperature: :math:`\tau > 0` in units of cosine similarity; 0.01 in the paper. The smaller
            it is, the nearer is the loss to the average precision, and the fewer pairs have a
            gradient.

    Returns:
        Mean over the anchors that have a positive, in [0, 1). If none has, zero, connected to the
        graph.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given,
            or an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> # row 0 finds its match behind row 2, row 1 at the same cosine: AP 1 / 2 and 1 / 1.5
        >>> smooth_ap_loss(rows, torch.tensor([0, 0, 1]))
        tensor(0.4167)

    Relations:
        Equals :func:`smooth_ap_definition`, the formula in a few lines. For
        :math:`\tau \to 0`, without ties, it is 1 minus the ``mean_ap`` of
        :func:`evaluate_retrieval` within the batch.

    Note:
        Time grows with N x P x M, for P the largest number of positives of an anchor, which is
        read once for each block and waits for the device. A tie counts half. The gradient is
        computed with the value, for some anchors at a time. Only first derivatives exist.

    References:
        Brown et al., Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval, ECCV 2020,
        section 4.
    """
    check_positive("smooth_ap_loss", "temperature", temperature)
    rule = partial(smooth_rank_rule, temperature=temperature, score=_precision)

    return anchorwise_loss(
        "smooth_ap_loss", embeddings, labels, contrast, contrast_labels, rule, "similarity"
    )


def _precision(right_BP: Tensor, wrong_BP: Tensor) -> RankScore:
    """Precision at each match, R / (R + F) for R right and F wrong ones up to it."""
    all_BP = right_BP + wrong_BP
    squared_BP = all_BP.square()
    return RankScore(right_BP / all_BP, wrong_BP / squared_BP, -right_BP / squared_BP)


class SmoothAPLoss(nn.Module):
    """Module of :func:`smooth_ap_loss`; it holds the options and has no parameters.

    Args:
        temperature: Above 0, in units of cosine similarity.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> SmoothAPLoss()(rows, torch.tensor([0, 0, 1]))
        tensor(0.4167)
    """

    def __init__(self, temperature: float = 0.01, *, distributed: bool = False) -> None:
        super().__init__()
        check_positive("SmoothAPLoss", "temperature", temperature)
        self.temperature = temperature
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute :func:`smooth_ap_loss`."""
        sides: tuple[Any, ...] = (embeddings, labels, contrast, contrast_labels)
        if self.distributed:
            sides = gather_batch("SmoothAPLoss", *sides, options=(self.extra_repr(),))
        return smooth_ap_loss(*sides, temperature=self.temperature)

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return f"temperature={self.temperature}, distributed={self.distributed}"
