"""Losses of the softmaxes over the rows and over the columns of paired rows, by blocks.

The engine passes over the blocks of logits twice, because the logsumexp of a column is known only
after the last block of rows. The first pass collects what the value needs; the second pass turns
each block into its slope, and folds it into the gradients. ``pair_terms`` holds the terms.
"""

from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from clipreid_kit.distances import to_common_precision
from clipreid_kit.losses._engine.attached_gradient import attach_gradients, without_autocast
from clipreid_kit.losses._engine.contrast_set import connected_zero
from clipreid_kit.losses._engine.pair_terms import (
    PairStatistics,
    PairTerm,
    ProbabilityBlock,
    Slope,
)
from clipreid_kit.losses._engine.row_blocks import TwoPassBlocks, concatenate
from clipreid_kit.losses._engine.unit_rows import LogitGradient, LogitNeeds, UnitRows


@runtime_checkable
class LogitTerm(Protocol):
    """A further term of the same logits, such as a hinge on those of the hardest negatives."""

    def read_block(self, start: int, stop: int, logits_BN: Tensor) -> None:
        """Read a block of logits in the first pass, and leave it unchanged."""

    def value(self) -> Tensor:
        """Value of the term, after the first pass."""

    def add_slope(self, start: int, stop: int, slope_BN: Tensor, unit: float | Tensor) -> None:
        """Add the slope by the cosines of a block, divided by ``unit``."""


def symmetric_softmax(
    images: Tensor,
    texts: Tensor,
    scale: float | Tensor,
    pair_term: PairTerm,
    *,
    siblings: Tensor | None = None,
    with_sums: bool = False,
    logit_term: LogitTerm | None = None,
    block_size: int | None = None,
) -> Tensor:
    """Value of ``pair_term``, plus that of ``logit_term``, with gradients.

    Args:
        images: Rows (N, D) of any length.
        texts: Rows (N, D); row i belongs to image i.
        scale: Factor of the cosines, a number or a scalar tensor.
        pair_term: Loss of the true pairs, given both softmaxes.
        siblings: Identity of each pair; other pairs of one identity are left out of the softmaxes.
        with_sums: Whether ``pair_term`` needs the sums of the logits.
        logit_term: A further term of the logits.
        block_size: Images whose logits are held at once; ``None`` chooses.
    """
    images, texts = to_common_precision(images, texts)
    num_pairs = images.shape[0]
    if num_pairs == 0:
        return connected_zero(images, texts)

    needs = LogitNeeds.of(images, texts, scale)

    with torch.no_grad(), without_autocast(images.device):
        image_rows = UnitRows(images)
        text_rows = UnitRows(texts)
        compute = partial(_block_of_logits, image_rows.rows, text_rows.rows, scale, siblings)
        blocks = TwoPassBlocks(compute, block_size, num_pairs, num_pairs, images.device)

        statistics = _first_pass(blocks, logit_term, with_sums=with_sums)
        value, pair_slope = pair_term(statistics)
        if logit_term is not None:
            value = value + logit_term.value()

        if not needs.any():
            return value

        # Unit of the slopes. They are near 0 at the optimum, and lose no digits without it.
        unit = scale / (2 * num_pairs)
        gradient = LogitGradient(image_rows, text_rows, scale, needs)
        _second_pass(blocks, statistics, pair_slope, logit_term, unit, gradient)
        input_gradients = gradient.input_gradients(1 / unit, 2 * num_pairs)

    return attach_gradients(value, input_gradients)


def _block_of_logits(
    image_rows: Tensor,
    text_rows: Tensor,
    scale: float | Tensor,
    siblings: Tensor | None,
    start: int,
    stop: int,
) -> Tensor:
    """Logits of a block of images; those of siblings other than the true pair are -inf."""
    logits_BN = (image_rows[start:stop] @ text_rows.T).mul_(scale)
    if siblings is None:
        return logits_BN

    same_BN = siblings[start:stop, None] == siblings[None, :]
    same_BN.diagonal(start).fill_(False)  # noqa: FBT003 (torch's own signature)
    return torch.where(same_BN, -torch.inf, logits_BN)


def _first_pass(
    blocks: TwoPassBlocks[Tensor], logit_term: LogitTerm | None, *, with_sums: bool
) -> PairStatistics:
    pairs: list[Tensor] = []
    images: list[Tensor] = []
    sums: list[Tensor] = []
    text_N: Tensor | None = None

    for start, stop, logits_BN in blocks.first_pass():
        pairs.append(logits_BN.diagonal(start).clone())
        images.append(logits_BN.logsumexp(dim=1))

        part_N = logits_BN.logsumexp(dim=0)
        text_N = part_N if text_N is None else torch.logaddexp(text_N, part_N)

        if with_sums:
            sums.append(logits_BN.sum(dim=1))
        if logit_term is not None:
            logit_term.read_block(start, stop, logits_BN)

    if text_N is None:
        raise ValueError("symmetric_softmax: there are no pairs.")

    sum_N = concatenate(sums) if with_sums else None
    return PairStatistics(concatenate(pairs), concatenate(images), text_N, sum_N)


def _second_pass(
    blocks: TwoPassBlocks[Tensor],
    statistics: PairStatistics,
    pair_slope: Slope,
    logit_term: LogitTerm | None,
    unit: float | Tensor,
    gradient: LogitGradient,
) -> None:
    """Turn each block of logits into its slope, divided by ``unit``, and add its gradient."""
    for start, stop, logits_BN in blocks.second_pass():
        given_text_BN = (logits_BN - statistics.text).exp_()
        given_image_BN = logits_BN.sub_(statistics.image[start:stop, None]).exp_()
        slope_BN = pair_slope(ProbabilityBlock(start, stop, given_image_BN, given_text_BN))

        if logit_term is not None:
            logit_term.add_slope(start, stop, slope_BN, unit)

        gradient.add_block(start, stop, slope_BN)
