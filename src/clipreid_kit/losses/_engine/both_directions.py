"""Losses of images and texts: a mean over the images plus a mean over the texts.

Each direction is an ``AnchorRule`` of ``anchorwise``, applied to the rows of the cosines and to
their columns. A batch that fits into one block shares one matrix between both directions, and the
sum of both slopes needs one product for each side. A larger one takes each direction by itself.
"""

import torch
from torch import Tensor

from clipreid_kit.distances import l2_normalize, to_common_precision
from clipreid_kit.losses._engine.anchorwise import (
    AnchorRule,
    anchors_per_block,
    mean_over_anchors,
)
from clipreid_kit.losses._engine.attached_gradient import attach_whole_gradients, needs_gradient
from clipreid_kit.losses._engine.contrast_set import connected_zero


def both_directions_loss(
    images: Tensor,
    texts: Tensor,
    labels: Tensor | None,
    text_labels: Tensor | None,
    rule: AnchorRule,
) -> Tensor:
    """Mean of ``rule`` over the images plus its mean over the texts, of their cosines.

    Args:
        images: Rows (N, D) of any length, checked before.
        texts: Rows (M, D) of any length, checked before.
        labels: Identity of each image; ``None`` if row i belongs to row i alone.
        text_labels: Identity of each text; ``None`` if they are those of the images.
        rule: Loss and slope of a block of rows of the cosines.
    """
    with torch.autocast(images.device.type, enabled=False):
        images, texts = to_common_precision(l2_normalize(images), l2_normalize(texts))
        if images.shape[0] == 0 or texts.shape[0] == 0:
            return connected_zero(images, texts)

        if labels is None:
            labels = torch.arange(images.shape[0], device=images.device)
        if text_labels is None:
            text_labels = labels

        if images.shape[0] <= anchors_per_block(texts.shape[0]):
            return _of_one_block(images, texts, labels, text_labels, rule)

        by_image = mean_over_anchors(images, texts, labels, text_labels, rule, "similarity")
        by_text = mean_over_anchors(texts, images, text_labels, labels, rule, "similarity")
        return by_image + by_text


def _of_one_block(
    images: Tensor, texts: Tensor, labels: Tensor, text_labels: Tensor, rule: AnchorRule
) -> Tensor:
    by_images: Tensor | None = None
    by_texts: Tensor | None = None
    needs_images = needs_gradient(images)
    needs_texts = needs_gradient(texts)

    with torch.no_grad():
        cosine_NM = images @ texts.T
        positive_NM = labels[:, None] == text_labels[None, :]
        negative_NM = ~positive_NM

        image = rule(cosine_NM, positive_NM, negative_NM)
        text = rule(cosine_NM.T, positive_NM.T, negative_NM.T)
        num_images = image.num_losses.clamp(min=1)
        num_texts = text.num_losses.clamp(min=1)
        value = image.total / num_images + text.total / num_texts

        slope_NM = image.slope / num_images + (text.slope / num_texts).T
        if needs_images:
            by_images = slope_NM @ texts
        if needs_texts:
            by_texts = slope_NM.T @ images

    return attach_whole_gradients(value, (images, by_images), (texts, by_texts))
