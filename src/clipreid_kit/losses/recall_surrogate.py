"""Recall@k surrogate: the share of positives among the first k, with sigmoids as comparisons."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_integer, check_positive, fail
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather_batch
from clipreid_kit.losses._engine.anchorwise import anchorwise_loss
from clipreid_kit.losses._engine.contrast_set import masks_of_pairs
from clipreid_kit.losses._engine.smooth_ranks import RankScore, smooth_rank_rule

PAPER_KS = (1, 2, 4, 8, 16)
"""The values of k in the paper."""


def recall_surrogate_definition(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    ks: Sequence[int] = PAPER_KS,
    temperature: float = 0.01,
    rank_temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """The formula of :func:`recall_surrogate_loss` in plain autograd, with N x M x M numbers.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> recall_surrogate_definition(rows, torch.tensor([0, 0, 1]), ks=[1])
        tensor(0.6768)
    """
    cosine_NM = cosine_similarity(embeddings, embeddings if contrast is None else contrast)
    positive_NM, negative_NM = masks_of_pairs(labels, contrast_labels)

    # How far candidate j is above candidate i, for each anchor; an anchor is no candidate.
    above_NMM = ((cosine_NM[:, None, :] - cosine_NM[:, :, None]) / temperature).sigmoid()
    itself_MM = torch.eye(cosine_NM.shape[1], dtype=torch.bool, device=cosine_NM.device)
    candidate_NM = positive_NM | negative_NM
    num_above_NM = (above_NMM * (candidate_NM[:, None, :] & ~itself_MM)).sum(dim=2)

    recalls = [((k - 1 - num_above_NM) / rank_temperature).sigmoid() for k in ks]
    recall_NM = torch.stack(recalls).mean(dim=0)
    num_positives_N = positive_NM.sum(dim=1)
    recall_N = (recall_NM * positive_NM).sum(dim=1) / num_positives_N.clamp(min=1)

    has_positive_N = num_positives_N > 0
    return torch.where(has_positive_N, 1 - recall_N, 0.0).sum() / has_positive_N.sum().clamp(min=1)


def recall_surrogate_loss(
    embeddings: Float[Tensor, "n d"],
    labels: Integer[Tensor, " n"],
    contrast: Float[Tensor, "m d"] | None = None,
    contrast_labels: Integer[Tensor, " m"] | None = None,
    *,
    ks: Sequence[int] = PAPER_KS,
    temperature: float = 0.01,
    rank_temperature: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Recall@k surrogate: one minus the recall of each anchor at several k, made differentiable.

    Use it as :func:`smooth_ap_loss`, where what counts is whether matches are among the first few.
    Batches should be several times larger than the largest k.

    .. math::
        L = 1 - \frac{1}{N |K|} \sum_a \sum_{k \in K} \frac{1}{|P|} \sum_{i \in P}
            \sigma_{\tau_1}\Big( k - 1 - \sum_{j \ne i} \sigma_{\tau_2}(s_j - s_i) \Big), \qquad
        \sigma_\tau(x) = \frac{1}{1 + e^{-x / \tau}}

    with the cosines :math:`s` of the candidates to the anchor, and its positives :math:`P`.

    Args:
        embeddings: Anchors; L2-normalised here.
        labels: Identity of each anchor.
        contrast: Rows that are ranked for each anchor. ``None`` means ``embeddings`` itself, and
            then (only then) an anchor is not ranked for itself.
        contrast_labels: Identity of each contrast row; required with ``contrast``.
        ks: :math:`K`, whole numbers of at least 1.
        temperature: :math:`\tau_2 > 0` in units of cosine similarity; 0.01 in the paper.
        rank_temperature: :math:`\tau_1 > 0` in units of ranks; 1 in the paper.

    Returns:
        Mean over the anchors that have a positive, in (0, 1). If none has, zero, connected to the
        graph. A perfect ranking has no loss of 0: a match of rank k has a recall@k of 1 / 2.

    Raises:
        ValueError: If shapes disagree, only one of ``contrast`` and ``contrast_labels`` is given,
            or an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> # row 0 finds its match behind row 2: sigmoid(-1); row 1 at the same cosine:
        >>> # sigmoid(-0.5)
        >>> recall_surrogate_loss(rows, torch.tensor([0, 0, 1]), ks=[1])
        tensor(0.6768)

    Relations:
        Equals :func:`recall_surrogate_definition`, the formula in a few lines. For small
        temperatures it is 1 minus the mean share of the positives among the first k.

    Note:
        The recall is that of the paper, the share of an anchor's positives among the first k. The
        Recall@k of a table, whether there is any, is ``hit_rate`` in :func:`evaluate_retrieval`.
        Time grows with N x P x M, for P the largest number of positives of an anchor, which is
        read once for each block and waits for the device. A tie counts half. Only first
        derivatives exist.

    References:
        Patel, Tolias and Matas, Recall@k Surrogate Loss with Large Batches and Similarity Mixup,
        CVPR 2022, section 3. The mixup of similarities is not part of it.
    """
    owner = "recall_surrogate_loss"
    _check_options(owner, ks, temperature, rank_temperature)
    score = partial(_recall, ks=tuple(ks), temperature=rank_temperature)
    rule = partial(smooth_rank_rule, temperature=temperature, score=score)

    return anchorwise_loss(owner, embeddings, labels, contrast, contrast_labels, rule, "similarity")


def _recall(
    right_BP: Tensor, wrong_BP: Tensor, *, ks: tuple[int, ...], temperature: float
) -> RankScore:
    """Mean smoothed recall of each match: is its rank R + F at most k?"""
    rank_BP = right_BP + wrong_BP
    value_BP = torch.zeros_like(rank_BP)
    slope_BP = torch.zeros_like(rank_BP)

    for k in ks:
        within_BP = ((k - rank_BP) / temperature).sigmoid()
        value_BP += within_BP / len(ks)
        slope_BP -= within_BP * (1 - within_BP) / (len(ks) * temperature)

    return RankScore(value_BP, slope_BP, slope_BP)


def _check_options(owner: str, ks: object, temperature: float, rank_temperature: float) -> None:
    if not isinstance(ks, Sequence) or len(ks) == 0:
        raise fail(owner, "ks as a sequence of whole numbers", repr(ks))
    for k in ks:
        check_integer(owner, "k", k, 1)

    check_positive(owner, "temperature", temperature)
    check_positive(owner, "rank_temperature", rank_temperature)


class RecallSurrogateLoss(nn.Module):
    """Module of :func:`recall_surrogate_loss`; it holds the options and has no parameters.

    Args:
        ks: Whole numbers of at least 1.
        temperature: Above 0, in units of cosine similarity.
        rank_temperature: Above 0, in units of ranks.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> RecallSurrogateLoss(ks=[1])(rows, torch.tensor([0, 0, 1]))
        tensor(0.6768)
    """

    def __init__(
        self,
        ks: Sequence[int] = PAPER_KS,
        temperature: float = 0.01,
        rank_temperature: float = 1.0,
        *,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        _check_options("RecallSurrogateLoss", ks, temperature, rank_temperature)

        self.ks = tuple(ks)
        self.temperature = temperature
        self.rank_temperature = rank_temperature
        self.distributed = distributed

    def forward(
        self,
        embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        contrast: Float[Tensor, "m d"] | None = None,
        contrast_labels: Integer[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute :func:`recall_surrogate_loss`."""
        sides: tuple[Any, ...] = (embeddings, labels, contrast, contrast_labels)
        if self.distributed:
            sides = gather_batch("RecallSurrogateLoss", *sides, options=(self.extra_repr(),))

        return recall_surrogate_loss(
            *sides,
            ks=self.ks,
            temperature=self.temperature,
            rank_temperature=self.rank_temperature,
        )

    def extra_repr(self) -> str:
        """Options for ``print(module)``."""
        return (
            f"ks={self.ks}, temperature={self.temperature}, "
            f"rank_temperature={self.rank_temperature}, distributed={self.distributed}"
        )
