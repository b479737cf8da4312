"""Argument checks that several losses share."""

import torch
from torch import Tensor

from clipreid_kit._checks import (
    check_embeddings,
    check_finite,
    check_integer,
    check_labels,
    check_positive,
    check_same_width,
    describe,
    fail,
)


def check_contrast(
    owner: str,
    embeddings: Tensor,
    labels: Tensor,
    contrast: Tensor | None,
    contrast_labels: Tensor | None,
) -> None:
    """Require labelled anchors, and a labelled contrast set of the same width or none."""
    check_embeddings(owner, "embeddings", embeddings)
    check_labels(owner, "labels", labels, embeddings.shape[0])

    if contrast is not None and contrast_labels is not None:
        check_embeddings(owner, "contrast", contrast)
        check_labels(owner, "contrast_labels", contrast_labels, contrast.shape[0])
        check_same_width(owner, "embeddings", embeddings, "contrast", contrast)

    elif contrast is not None or contrast_labels is not None:
        given, missing = "contrast", "contrast_labels"
        if contrast is None:
            given, missing = missing, given

        raise ValueError(
            f"{owner}: {given} is given without {missing}. "
            "Give both for image-text, neither for one modality."
        )


def check_pairs(owner: str, images: Tensor, texts: Tensor, remedy: str) -> None:
    """Require as many texts as images, of the same width."""
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
    """Require a number above zero, or a scalar tensor, whose value is not read."""
    if not isinstance(temperature, Tensor):
        check_positive(owner, "temperature", temperature)
    elif temperature.ndim > 0:
        raise fail(owner, "temperature as a number or a scalar tensor", describe(temperature))


def check_logit_bias(owner: str, bias: float | Tensor) -> None:
    """Require a finite number, or a scalar tensor, whose value is not read."""
    if not isinstance(bias, Tensor):
        check_finite(owner, "bias", bias)
    elif bias.ndim > 0:
        raise fail(owner, "bias as a number or a scalar tensor", describe(bias))


def check_block_size(owner: str, block_size: int | None) -> None:
    """Require a whole number of rows, at least 1, or ``None``."""
    if block_size is not None:
        check_integer(owner, "block_size", block_size, 1)


def check_class_labels(owner: str, labels: Tensor, num_classes: int, remedy: str) -> None:
    """Require labels in [0, num_classes), where they can be read without waiting for a device.

    That is on the CPU, and not inside a compiled graph.
    """
    if labels.device.type != "cpu" or labels.numel() == 0 or torch.compiler.is_compiling():
        return

    lowest = int(labels.min())
    highest = int(labels.max())
    if lowest < 0 or highest >= num_classes:
        got = f"labels from {lowest} to {highest}"
        raise fail(owner, f"labels in [0, {num_classes})", got, remedy)
