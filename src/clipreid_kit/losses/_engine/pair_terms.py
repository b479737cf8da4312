r"""Losses of paired rows by two softmaxes: over the texts of an image, over the images of a text.

A term is a function of what the first pass over the logits found. It returns its value, and a
function that returns its slope for a block of the second pass. With :math:`p^v_{ij}` the
probability of text j given image i, and :math:`p^t_{ij}` the probability of image i given text j,
all slopes are those of :math:`2N` times the value, by the logits.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class PairStatistics(NamedTuple):
    """Results of the first pass over the (N, N) logits of images and texts.

    Attributes:
        pair: Logit of each true pair.
        image: Logsumexp over the texts, for each image.
        text: Logsumexp over the images, for each text.
        total: Sum of the logits of each image; ``None`` unless asked for.
    """

    pair: Tensor
    image: Tensor
    text: Tensor
    total: Tensor | None


class ProbabilityBlock(NamedTuple):
    """Probabilities of a block of images; the term may overwrite both matrices.

    Attributes:
        start: First image of the block.
        stop: End of the block.
        given_image: Softmax of the logits over the texts.
        given_text: Softmax of the logits over the images.
    """

    start: int
    stop: int
    given_image: Tensor
    given_text: Tensor


Slope = Callable[[ProbabilityBlock], Tensor]
PairTerm = Callable[[PairStatistics], tuple[Tensor, Slope]]


def cross_entropy(statistics: PairStatistics) -> tuple[Tensor, Slope]:
    r"""InfoNCE, the mean of :math:`-\ln p` of the true pairs in both directions.

    Slope: :math:`p^v_{ij} + p^t_{ij} - 2\,[i = j]`.
    """
    pair_N, image_N, text_N, _ = statistics
    value = (0.5 * (image_N + text_N) - pair_N).mean()

    def slope(block: ProbabilityBlock) -> Tensor:
        slope_BN = block.given_text.add_(block.given_image)
        slope_BN.diagonal(block.start).sub_(2)
        return slope_BN

    return value, slope


def smoothed_cross_entropy(
    statistics: PairStatistics, *, label_smoothing: float
) -> tuple[Tensor, Slope]:
    r"""Cross entropy to targets :math:`q_{ij} = (1 - \epsilon) [i = j] + \epsilon / N`.

    Slope: :math:`p^v_{ij} + p^t_{ij} - 2 q_{ij}`. Needs the sums of the logits.
    """
    pair_N, image_N, text_N, sum_N = statistics
    if sum_N is None:
        raise TypeError("smoothed_cross_entropy: the statistics hold no sums of logits.")

    uniform = label_smoothing / pair_N.shape[0]
    target_N = (1 - label_smoothing) * pair_N + uniform * sum_N
    value = (0.5 * (image_N + text_N) - target_N).mean()

    def slope(block: ProbabilityBlock) -> Tensor:
        slope_BN = block.given_text.add_(block.given_image)
        slope_BN.diagonal(block.start).sub_(2 * (1 - label_smoothing))
        slope_BN -= 2 * label_smoothing / pair_N.shape[0]
        return slope_BN

    return value, slope


def focal(statistics: PairStatistics, *, gamma: float, alpha: float) -> tuple[Tensor, Slope]:
    r"""Focal loss, the mean of :math:`\alpha (1 - p)^\gamma (-\ln p)` in both directions.

    Slope: :math:`f^v_i\, (p^v_{ij} - [i = j]) + f^t_j\, (p^t_{ij} - [i = j])`, where
    :math:`f` is the derivative of a pair's loss by its :math:`-\ln p`.
    """
    pair_N, image_N, text_N, _ = statistics
    image_loss_N, image_slope_N = _focal_weighted(image_N - pair_N, gamma, alpha)
    text_loss_N, text_slope_N = _focal_weighted(text_N - pair_N, gamma, alpha)
    value = (0.5 * (image_loss_N + text_loss_N)).mean()

    def slope(block: ProbabilityBlock) -> Tensor:
        image_slope_B = image_slope_N[block.start : block.stop]
        text_slope_B = text_slope_N[block.start : block.stop]

        from_text_BN = block.given_text.mul_(text_slope_N)
        from_image_BN = block.given_image.mul_(image_slope_B[:, None])
        slope_BN = from_text_BN + from_image_BN
        slope_BN.diagonal(block.start).sub_(image_slope_B + text_slope_B)
        return slope_BN

    return value, slope


def _focal_weighted(log_loss: Tensor, gamma: float, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Value :math:`\alpha (1 - p)^\gamma (-\ln p)` and its derivative by :math:`-\ln p`."""
    # A logsumexp may lie a rounding error below its largest term.
    log_loss = log_loss.clamp(min=0)

    # 1 - p without cancellation.
    miss = -torch.expm1(-log_loss)
    weight = alpha * miss**gamma

    # The ratio tends to 1 where both vanish.
    ratio = torch.where(miss > 0, log_loss / miss, 1.0)
    derivative = weight * (1 + gamma * (1 - miss) * ratio)

    return weight * log_loss, derivative
