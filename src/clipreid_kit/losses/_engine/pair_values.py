"""Losses of image-text pairs with a value for each pair, and with pairs that are left out.

These run through the definitions, in plain autograd: a mask of pairs holds a matrix already, and a
loss for each pair needs the incoming gradients of all pairs at once.
"""

from typing import Literal

import torch
from torch import Tensor

from clipreid_kit._checks import check_choice, check_dense, describe, fail
from clipreid_kit.losses._engine.argument_checks import check_labelled_pairs
from clipreid_kit.losses._engine.attached_gradient import check_reverse_mode

Reduction = Literal["mean", "none"]
"""The loss of a batch, or the values of its pairs."""


def check_reduction(owner: str, reduction: str) -> None:
    """Require ``"mean"`` or ``"none"``."""
    check_choice(owner, "reduction", reduction, ("mean", "none"))


def check_image_text_pairs(
    owner: str,
    images: Tensor,
    texts: Tensor,
    labels: Tensor | None,
    text_labels: Tensor | None,
    ignore: Tensor | None,
    reduction: str,
) -> None:
    """Require what every loss of labelled images and texts with values of pairs needs."""
    check_labelled_pairs(owner, images, texts, labels, text_labels)
    check_ignore(owner, ignore, images.shape[0], texts.shape[0])
    check_reduction(owner, reduction)
    check_paired(owner, images, texts, reduction)


def check_paired(owner: str, images: Tensor, texts: Tensor, reduction: str) -> None:
    """Require as many texts as images where each pair is to have a value."""
    num_images, num_texts = images.shape[0], texts.shape[0]
    if reduction == "none" and num_images != num_texts:
        raise ValueError(
            f'{owner}: reduction="none" has a value for each pair of rows, and there are '
            f"{num_images} images and {num_texts} texts. Repeat the text of each image."
        )


def check_ignore(owner: str, ignore: Tensor | None, num_rows: int, num_columns: int) -> None:
    """Require a boolean matrix with an entry for every pair, or ``None``."""
    if ignore is None:
        return

    check_dense(owner, "ignore", ignore)
    if ignore.dtype != torch.bool or ignore.shape != (num_rows, num_columns):
        expected = f"ignore as a boolean matrix ({num_rows}, {num_columns})"
        remedy = "It has a row for each image and a column for each text, of all ranks."
        raise fail(owner, expected, describe(ignore), remedy)

    check_reverse_mode(owner, ignore)


def others_ignored(ignore: Tensor) -> Tensor:
    """The ignored pairs without the true pairs, on the diagonal."""
    return ignore & ~torch.eye(len(ignore), dtype=torch.bool, device=ignore.device)


def masks_of_image_text(
    num_images: int,
    labels: Tensor | None,
    text_labels: Tensor | None,
    ignore: Tensor | None,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Matrices (N, M) that mark the positives and the negatives of every image.

    Without labels, row i belongs to row i alone. An ignored pair is neither.
    """
    if labels is None:
        labels = torch.arange(num_images, device=device)
    if text_labels is None:
        text_labels = labels

    positive_NM = labels[:, None] == text_labels[None, :]
    negative_NM = ~positive_NM
    if ignore is None:
        return positive_NM, negative_NM

    return positive_NM & ~ignore, negative_NM & ~ignore


def reduce_directions(
    image_N: Tensor,
    counts_image_N: Tensor,
    text_M: Tensor,
    counts_text_M: Tensor,
    reduction: Reduction,
) -> Tensor:
    """Sum of the means of both directions over the rows that count, or the sum of each pair.

    A row that does not count has the value 0.
    """
    image_N = torch.where(counts_image_N, image_N, 0.0)
    text_M = torch.where(counts_text_M, text_M, 0.0)
    if reduction == "none":
        return image_N + text_M

    by_image = image_N.sum() / counts_image_N.sum().clamp(min=1)
    by_text = text_M.sum() / counts_text_M.sum().clamp(min=1)
    return by_image + by_text
