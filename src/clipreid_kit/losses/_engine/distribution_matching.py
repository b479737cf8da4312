r"""KL divergence between the softmax of an anchor's similarities and its distribution of labels.

What SDM and CMPM share: one direction, as a rule over blocks and as a formula in plain autograd.
"""

import torch
from torch import Tensor

from clipreid_kit.losses._engine.anchorwise import BlockLoss


def matching_divergence(
    logits_NM: Tensor, positive_NM: Tensor, negative_NM: Tensor, epsilon: float
) -> Tensor:
    r"""Divergence :math:`\sum_j p_{ij} \ln (p_{ij} / (q_{ij} + \epsilon))` of every row.

    Pairs that are neither positive nor negative are left out of both distributions. The value of a
    row without a positive has no meaning, and is finite.
    """
    candidate_NM = positive_NM | negative_NM

    # A softmax over no candidates is not finite.
    is_left_out_NM = ~candidate_NM & candidate_NM.any(dim=1, keepdim=True)
    log_p_NM = logits_NM.masked_fill(is_left_out_NM, -torch.inf).log_softmax(dim=1)
    p_NM = log_p_NM.exp()

    q_NM = positive_NM.to(p_NM.dtype) / positive_NM.sum(dim=1, keepdim=True).clamp(min=1)
    ratio_NM = log_p_NM.masked_fill(is_left_out_NM, 0.0) - (q_NM + epsilon).log()
    return (p_NM * ratio_NM).sum(dim=1)


def matching_rule(
    similarity_BM: Tensor,
    positive_BM: Tensor,
    negative_BM: Tensor,  # noqa: ARG001 (every pair that is not a positive)
    *,
    scale: float,
    epsilon: float,
) -> BlockLoss:
    r"""The same of a block of anchors, with its slope.

    Slope by :math:`s_{ij}`: :math:`\gamma\, p_{ij} (\ln (p_{ij} / (q_{ij} + \epsilon)) - \ell_i)`,
    with :math:`\gamma` the scale. Anchors without a positive do not count.
    """
    log_p_BM = (scale * similarity_BM).log_softmax(dim=1)
    p_BM = log_p_BM.exp()

    count_B = positive_BM.sum(dim=1)
    is_valid_B = count_B > 0
    q_BM = positive_BM.to(p_BM.dtype) / count_B.clamp(min=1)[:, None]
    ratio_BM = log_p_BM.sub_(q_BM.add_(epsilon).log_())

    loss_B = torch.where(is_valid_B, (p_BM * ratio_BM).sum(dim=1), 0.0)
    slope_BM = ratio_BM.sub_(loss_B[:, None]).mul_(p_BM).mul_(scale)
    slope_BM.masked_fill_(~is_valid_B[:, None], 0.0)

    return BlockLoss(loss_B.sum(), is_valid_B.sum(), slope_BM)
