"""Anchors and the optional set of rows that they are compared with."""

from typing import Literal

from torch import Tensor

from clipreid_kit.distances import cosine_similarity, euclidean_distance

Distance = Literal["euclidean", "cosine"]


def connected_zero(first: Tensor, second: Tensor | None = None) -> Tensor:
    """Zero that is connected to the graph of its inputs, for a batch without a loss."""
    total = first.sum() if second is None else first.sum() + second.sum()
    return total * 0.0


def distances_of_pairs(embeddings: Tensor, contrast: Tensor | None, distance: Distance) -> Tensor:
    """Matrix (N, M) of the Euclidean distances, or of 1 - cosine."""
    others = embeddings if contrast is None else contrast
    if distance == "euclidean":
        return euclidean_distance(embeddings, others)

    return 1 - cosine_similarity(embeddings, others)


def masks_of_pairs(labels: Tensor, contrast_labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Matrices (N, M) that mark the positives and the negatives of every anchor.

    Without a contrast set the anchors are compared with each other, and an anchor is neither its
    own positive nor its own negative.
    """
    if contrast_labels is not None:
        same_NM = labels[:, None] == contrast_labels[None, :]
        return same_NM, ~same_NM

    same_NN = labels[:, None] == labels[None, :]
    positive_NN = same_NN.clone().fill_diagonal_(False)  # noqa: FBT003 (torch's own signature)
    return positive_NN, ~same_NN
