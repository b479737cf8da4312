"""Symmetric softmax over paired rows, by blocks: what InfoNCE and its form with hard negatives share."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from clipreid_kit._checks import (
    check_at_least,
    check_embeddings,
    check_fraction,
    check_positive,
    check_same_width,
    describe,
    fail,
)
from clipreid_kit.losses._blocks import (
    TwoRuns,
    UnitRows,
    add_product,
    attach,
    exactly,
    in_one_precision,
    join,
    wanted,
)


@runtime_checkable
class Watcher(Protocol):
    """A further term of the same logits, in units of cosine similarity."""

    def see(self, start: int, stop: int, logits_BN: Tensor) -> None:
        """Read a block of logits; leave it as it was."""

    def finish(self) -> Tensor:
        """The value of the term, after all blocks were seen."""

    def add(self, start: int, stop: int, slope_BN: Tensor, unit: float | Tensor) -> None:
        """Add the term's slope at a block of cosines, divided by ``unit``."""


def check_pairs(owner: str, images: Tensor, texts: Tensor, remedy: str) -> None:
    """Require as many texts as images, of one width."""
    check_embeddings(owner, "image_embeddings", images)
    check_embeddings(owner, "text_embeddings", texts)
    check_same_width(owner, "image_embeddings", images, "text_embeddings", texts)
    if images.shape[0] != texts.shape[0]:
        raise fail(
            owner,
            "as many texts as images",
            f"{images.shape[0]} images and {texts.shape[0]} texts",
            remedy,
        )


def check_temperature(owner: str, temperature: float | Tensor) -> None:
    """Require a number above zero, or a scalar tensor, whose value is not looked at."""
    if not isinstance(temperature, Tensor):
        check_positive(owner, "temperature", temperature)
    elif temperature.ndim > 0:
        raise fail(owner, "temperature as a number or a scalar tensor", describe(temperature))


def check_softening(
    owner: str, label_smoothing: float, focal_gamma: float, focal_alpha: float
) -> None:
    """Require options of InfoNCE that fit together."""
    check_fraction(owner, "label_smoothing", label_smoothing)
    check_at_least(owner, "focal_gamma", focal_gamma, 0)
    check_positive(owner, "focal_alpha", focal_alpha)
    if label_smoothing and (focal_gamma or focal_alpha != 1):
        got = f"{label_smoothing} with focal_gamma={focal_gamma} and focal_alpha={focal_alpha}"
        raise fail(
            owner,
            "label_smoothing or focal weights",
            got,
            "Smoothed targets have no one probability.",
        )


def _focal(log_loss: Tensor, gamma: float, alpha: float) -> tuple[Tensor, Tensor]:
    """Alpha times (1 - p)^gamma times the loss -ln p, and its derivative by -ln p."""
    loss = log_loss.clamp(min=0)  # a logsumexp may lie a rounding below its largest term
    wrong = -torch.expm1(-loss)  # 1 - p without cancellation
    weight = alpha * wrong**gamma
    ratio = torch.where(
        wrong > 0, loss / wrong, 1.0
    )  # tends to 1 where both vanish; there is no graph here
    return weight * loss, weight * (1 + gamma * (1 - wrong) * ratio)


def symmetric_softmax(
    images: Tensor,
    texts: Tensor,
    scale: float | Tensor,
    block_size: int | None,
    *,
    siblings: Tensor | None = None,
    watcher: Watcher | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    focal_alpha: float = 1.0,
) -> Tensor:
    """Mean over rows and directions of -log softmax of the true pair; pairs of equal ``siblings`` take no part.

    A column's logsumexp is known when the last block of rows was seen, so that blocks are run over twice.
    """
    focal = bool(focal_gamma) or focal_alpha != 1
    images, texts = in_one_precision(images, texts)
    total = images.shape[0]
    if total == 0:
        return (images.sum() + texts.sum()) * 0.0
    learn, learn_other, learn_scale = wanted(images), wanted(texts), wanted(scale)
    with torch.no_grad(), exactly(images.device):
        first, second = UnitRows(images), UnitRows(texts)

        def block(start: int, stop: int) -> Tensor:
            logits_BN = (first.rows[start:stop] @ second.rows.T).mul_(scale)
            if siblings is None:
                return logits_BN
            same_BN = siblings[start:stop, None] == siblings[None, :]
            same_BN.diagonal(start).fill_(False)  # noqa: FBT003 (torch's own signature)
            return torch.where(same_BN, -torch.inf, logits_BN)

        blocks = TwoRuns(block, block_size, total, total, images.device)
        pairs: list[Tensor] = []
        across: list[Tensor] = []
        down: list[Tensor] = []
        spread: list[Tensor] = []  # sums of all logits, which smoothed targets ask for
        for start, stop, logits_BN in blocks.read():
            pairs.append(logits_BN.diagonal(start).clone())
            across.append(logits_BN.logsumexp(dim=1))
            part_N = logits_BN.logsumexp(dim=0)
            down = [torch.logaddexp(down[0], part_N) if down else part_N]
            if label_smoothing:
                spread.append(logits_BN.sum(dim=1))
            if watcher is not None:
                watcher.see(start, stop, logits_BN)
        across_N, down_N, pairs_N = join(across), down[0], join(pairs)
        across_slope_N = down_slope_N = None
        if focal:
            across_loss_N, across_slope_N = _focal(across_N - pairs_N, focal_gamma, focal_alpha)
            down_loss_N, down_slope_N = _focal(down_N - pairs_N, focal_gamma, focal_alpha)
            loss = (0.5 * (across_loss_N + down_loss_N)).mean()
        elif label_smoothing:
            target_N = (1 - label_smoothing) * pairs_N + (label_smoothing / total) * join(spread)
            loss = (0.5 * (across_N + down_N) - target_N).mean()
        else:
            loss = (0.5 * (across_N + down_N) - pairs_N).mean()
        if watcher is not None:
            loss = loss + watcher.finish()
        if not (learn or learn_other or learn_scale):
            return loss
        unit = scale / (
            2 * total
        )  # of the slopes below, which are near 0 at the optimum: so they lose no digits
        parts: list[Tensor] = []
        to_second: Tensor | None = None
        for start, stop, logits_BN in blocks.overwrite():
            slope_BN = (logits_BN - down_N).exp_()
            there_BN = logits_BN.sub_(across_N[start:stop, None]).exp_()
            if across_slope_N is not None and down_slope_N is not None:
                slope_BN = slope_BN.mul_(down_slope_N) + there_BN.mul_(
                    across_slope_N[start:stop, None]
                )
                slope_BN.diagonal(start).sub_(across_slope_N[start:stop] + down_slope_N[start:stop])
            else:
                slope_BN += there_BN
                slope_BN.diagonal(start).sub_(2 * (1 - label_smoothing))
            if label_smoothing:
                slope_BN -= 2 * label_smoothing / total
            if watcher is not None:
                watcher.add(start, stop, slope_BN, unit)
            if learn or learn_scale:
                parts.append(slope_BN @ second.rows)
            if learn_other:
                to_second = add_product(to_second, slope_BN.T, first.rows[start:stop])
        scale_part = first_part = None
        if parts:
            to_first = join(parts)
            if isinstance(scale, Tensor) and learn_scale:
                scale_part = (
                    scale,
                    (to_first * first.rows).sum() / (2 * total),
                    torch.ones_like(scale),
                )
            first_part = first.back(to_first, 1 / unit) if learn else None
        second_part = second.back(to_second, 1 / unit) if to_second is not None else None
    return attach(loss, first_part, second_part, scale_part)
