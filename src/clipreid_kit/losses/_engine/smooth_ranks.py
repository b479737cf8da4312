"""Rules over anchors of a score of smoothed ranks: a sigmoid in the place of each comparison.

Shape suffixes: B anchors, M candidates, P the largest number of matches of an anchor.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clipreid_kit.losses._engine.anchorwise import BlockLoss

# Comparisons held at once: 16 MiB in float32.
_COMPARISONS = 2**22


class RankScore(NamedTuple):
    """Score of each match, larger is better, and its slopes; all (B, P).

    Attributes:
        value: The score.
        by_right: Slope by the smoothed number of positives above the match.
        by_wrong: Slope by the smoothed number of negatives above it.
    """

    value: Tensor
    by_right: Tensor
    by_wrong: Tensor


ScoreOfRanks = Callable[[Tensor, Tensor], RankScore]
"""Scores matches by 1 + the positives above each, and by the negatives above it."""


def smooth_rank_rule(
    similarity_BM: Tensor,
    positive_BM: Tensor,
    negative_BM: Tensor,
    *,
    temperature: float,
    score: ScoreOfRanks,
) -> BlockLoss:
    """One minus the mean score of an anchor's matches, for some anchors at a time."""
    num_candidates = similarity_BM.shape[1]
    count_B = positive_BM.sum(dim=1)

    # A compiled graph reads no value, and ranks every candidate.
    num_ranked = num_candidates
    if not torch.compiler.is_compiling():
        num_ranked = max(1, int(count_B.max()))
    size = max(1, _COMPARISONS // (num_ranked * num_candidates))

    losses = []
    slopes = []
    for start in range(0, similarity_BM.shape[0], size):
        part = slice(start, start + size)
        loss_B, slope_BM = _of_anchors(
            similarity_BM[part],
            positive_BM[part],
            negative_BM[part],
            num_ranked,
            temperature,
            score,
        )
        losses.append(loss_B)
        slopes.append(slope_BM)

    return BlockLoss(torch.cat(losses).sum(), (count_B > 0).sum(), torch.cat(slopes))


def _of_anchors(
    similarity_BM: Tensor,
    positive_BM: Tensor,
    negative_BM: Tensor,
    num_ranked: int,
    temperature: float,
    score: ScoreOfRanks,
) -> tuple[Tensor, Tensor]:
    """Loss and slope of some anchors."""
    # The positives of each anchor first; the places beyond them are left out by is_match.
    is_match_BP, match_BP = positive_BM.to(similarity_BM.dtype).topk(num_ranked, dim=1)
    of_match_BP = similarity_BM.gather(1, match_BP)
    count_B = positive_BM.sum(dim=1).clamp(min=1)

    above_BPM = ((similarity_BM[:, None, :] - of_match_BP[:, :, None]) / temperature).sigmoid_()
    steepness_BPM = above_BPM * (1 - above_BPM) / temperature
    others_BPM = positive_BM[:, None, :].to(above_BPM.dtype).expand_as(above_BPM).clone()
    others_BPM.scatter_(2, match_BP[:, :, None], 0.0)

    right_BP = 1 + (above_BPM * others_BPM).sum(dim=2)
    wrong_BP = (above_BPM * negative_BM[:, None, :]).sum(dim=2)
    value_BP, by_right_BP, by_wrong_BP = score(right_BP, wrong_BP)

    has_match_B = positive_BM.any(dim=1)
    share_BP = is_match_BP / count_B[:, None]
    loss_B = torch.where(has_match_B, 1 - (value_BP * share_BP).sum(dim=1), 0.0)

    # Slope of the loss by each comparison, then by both similarities that it compares.
    by_comparison_BPM = -(share_BP * by_wrong_BP)[:, :, None] * negative_BM[:, None, :]
    by_comparison_BPM -= (share_BP * by_right_BP)[:, :, None] * others_BPM
    by_comparison_BPM *= steepness_BPM

    slope_BM = by_comparison_BPM.sum(dim=1)
    slope_BM.scatter_add_(1, match_BP, -by_comparison_BPM.sum(dim=2))
    return loss_B, slope_BM
