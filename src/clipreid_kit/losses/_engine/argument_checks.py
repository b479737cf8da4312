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
    inside_a_transform,
)
from clipreid_kit.losses._engine.attached_gradient import check_reverse_mode


def check_contrast(
    owner: str,
    embeddings: Tensor,
    labels: Tensor,
    contrast: Tensor | None,
    contrast_labels: Tensor | None,
) -> None:
    """Require labelled anchors, and a labelled contrast set of the same width or none."""
    check_embeddings(owner, "embeddings", embeddings)
    check_labels(owner, "labels", labels, embeddings.shape[0], embeddings.device)

    if contrast is not None and contrast_labels is not None:
        check_embeddings(owner, "contrast", contrast)
        check_labels(owner, "contrast_labels", contrast_labels, contrast.shape[0], contrast.device)
        check_same_width(owner, "embeddings", embeddings, "contrast", contrast)

    elif contrast is not None or contrast_labels is not None:
        given, missing = "contrast", "contrast_labels"
        if contrast is None:
            given, missing = missing, given

        raise ValueError(
            f"{owner}: {given} is given without {missing}. "
            "Give both for image-text, neither for one modality."
        )

    check_reverse_mode(owner, embeddings, labels, contrast, contrast_labels)


def check_pairs(owner: str, images: Tensor, texts: Tensor, remedy: str) -> None:
    """Require as many texts as images, of the same width, and reverse mode."""
    check_pair_shapes(owner, images, texts, remedy)
    check_reverse_mode(owner, images, texts)


def check_pair_shapes(owner: str, images: Tensor, texts: Tensor, remedy: str) -> None:
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


def check_labelled_pairs(
    owner: str,
    images: Tensor,
    texts: Tensor,
    labels: Tensor | None,
    text_labels: Tensor | None,
) -> None:
    """Require labelled images and texts of one width, or without labels as many texts as images."""
    if labels is None and text_labels is not None:
        raise ValueError(f"{owner}: text_labels is given without labels. Give both.")

    if labels is None:
        check_pairs(owner, images, texts, "Give labels and text_labels.")
        return

    check_embeddings(owner, "image_embeddings", images)
    check_embeddings(owner, "text_embeddings", texts)
    check_same_width(owner, "image_embeddings", images, "text_embeddings", texts)
    check_labels(owner, "labels", labels, images.shape[0], images.device)

    text_labels = labels if text_labels is None else text_labels
    check_labels(owner, "text_labels", text_labels, texts.shape[0], texts.device)
    check_reverse_mode(owner, images, texts, labels, text_labels)


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


def check_changes_state_once(owner: str) -> None:
    """Raise RuntimeError where a module that changes itself in each call would be called again.

    That is inside a backward pass, where ``torch.utils.checkpoint`` repeats a call, and inside a
    transform of ``torch.func``, whose tensors must not be kept.
    """
    if torch.compiler.is_compiling():
        return

    # Torch has no public way to ask; -1 outside of any backward pass.
    graph_task_id = getattr(torch._C, "_current_graph_task_id", None)  # noqa: SLF001
    if graph_task_id is not None and graph_task_id() != -1:
        raise RuntimeError(
            f"{owner}: it was called again inside a backward pass, as torch.utils.checkpoint does, "
            "but every call in training mode changes it. Keep this loss outside the checkpoint."
        )

    if inside_a_transform():
        raise RuntimeError(
            f"{owner}: it was called inside a transform of torch.func, but every call in training "
            "mode changes it. Call eval() on it first."
        )
