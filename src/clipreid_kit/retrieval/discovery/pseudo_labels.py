"""Pseudo labels: clusters of embeddings, to train on without identities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics.reranking.jaccard import JaccardDistances, JaccardPairs
from clipreid_kit.retrieval.discovery.average_linkage import cluster_components, split_large
from clipreid_kit.retrieval.discovery.components import connected_components, renumber
from clipreid_kit.retrieval.discovery.discovery_scores import DiscoveryScores, score_identities

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_OWNER = "pseudo_labels"


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Clusters of images.

    Attributes:
        labels: (N,), number of the cluster of every image, counted from 0 in the order of first
            images; -1 for an outlier, which is in no cluster.
    """

    labels: Int[Tensor, " n"]

    @property
    def num_clusters(self) -> int:
        """Number of clusters."""
        return int(self.labels.max()) + 1

    @property
    def num_outliers(self) -> int:
        """Number of images in no cluster."""
        return int((self.labels < 0).sum())

    def evaluate(self, identities: Sequence[int | str]) -> DiscoveryScores:
        """Compare the clusters with known identities; an outlier counts as a cluster of its own.

        Args:
            identities: Known identities of the N images.

        Raises:
            ValueError: If the number of identities differs, all images have the same one, or
                scikit-learn is not installed.
        """
        return score_identities("PseudoLabels.evaluate", self.labels.numpy(), identities)


def pseudo_labels(
    embeddings: Float[Tensor, "n d"],
    *,
    method: Literal["dbscan", "average"] = "dbscan",
    max_distance: float = 0.6,
    min_samples: int = 4,
    min_size: int = 2,
    k1: int = 30,
    k2: int = 6,
    distance: Distance = "cosine",
) -> PseudoLabels:
    """Cluster the images of a training set, to train on the clusters as if they were identities.

    Use it once an epoch, on embeddings of the current model, as Cluster Contrast, CAP and most
    methods without labels do. Images are compared by :class:`JaccardDistances`, of which only those
    up to ``max_distance`` are kept: N images take memory of the order N k1. ``"dbscan"`` is
    scikit-learn's. ``"average"`` joins what such pairs connect by average linkage, as
    :func:`discover_identities` does: a bridge of a few images does not make one cluster of two.
    Needs the extra ``calibrate``.

    Args:
        embeddings: (N, D), any scale; N >= 2.
        method: ``"dbscan"`` or ``"average"``.
        max_distance: In (0, 1): largest distance of two neighbours (``eps`` of DBSCAN), or largest
            mean distance of two clusters that are joined. Papers take 0.4 to 0.7.
        min_samples: For DBSCAN, number of neighbours, the image itself among them, that makes an
            image the core of a cluster.
        min_size: Images of a smaller cluster are outliers; at least 1.
        k1: Neighbours of an image, as for :class:`JaccardDistances`; larger than N - 1 means all.
        k2: Images over which neighbour sets are averaged, likewise.
        distance: ``"cosine"`` or ``"euclidean"``, by which neighbours are found.

    Returns:
        The clusters. They depend on the embeddings alone: an image at ``max_distance`` exactly is a
        neighbour, equal images are neighbours at distance 0, and an image that two clusters reach
        belongs to the one that DBSCAN finds first, in the order of images.

    Raises:
        ValueError: If there are fewer than two images, a row holds NaN or infinity, an option is
            out of its range, no cluster is found, or scikit-learn is not installed.

    Example:
        >>> rows = torch.tensor([[1, 0], [0.99, 0.1], [0, 1], [0.1, 0.99], [-1, -1]])
        >>> found = pseudo_labels(rows, k1=1, k2=1, min_samples=2)
        >>> found.labels.tolist(), found.num_clusters, found.num_outliers
        ([0, 0, 1, 1, -1], 2, 1)

    References:
        Ester et al., A Density-Based Algorithm for Discovering Clusters, KDD 1996. Dai et al.,
        Cluster Contrast for Unsupervised Person Re-Identification, ACCV 2022 (k1 30, k2 6, 4
        samples, ``max_distance`` 0.6 on Market-1501).
    """
    check_choice(_OWNER, "method", method, ("dbscan", "average"))
    check_integer(_OWNER, "min_samples", min_samples, 1)
    check_integer(_OWNER, "min_size", min_size, 1)

    distances = JaccardDistances(embeddings, k1=k1, k2=k2, distance=distance)
    near = distances.within(max_distance)
    if method == "dbscan":
        labels = _dbscan(near, len(distances), max_distance, min_samples)
    else:
        labels = _average(near, distances, max_distance)

    sizes = np.bincount(labels[labels >= 0], minlength=1)
    labels = renumber(labels, (labels >= 0) & (sizes[labels] >= min_size))
    if labels.max() < 0:
        raise ValueError(
            f"{_OWNER}: no cluster of {min_size} or more images was found among {len(labels)}; "
            "raise max_distance, or lower min_samples or min_size."
        )
    return PseudoLabels(torch.from_numpy(labels))


def _dbscan(near: JaccardPairs, count: int, max_distance: float, min_samples: int) -> IntArray:
    """Cluster by scikit-learn, from a sparse matrix of distances."""
    try:
        from scipy.sparse import csr_matrix
        from sklearn.cluster import DBSCAN
    except ImportError:
        raise ValueError(
            f"{_OWNER}: scikit-learn is needed. Run pip install clipreid_kit[calibrate]."
        ) from None

    # Each image is its own neighbour. Entries of distance 0 stay explicit: without them equal
    # images would be strangers.
    own = np.arange(count)
    first = np.concatenate([own, near.first.numpy()])
    second = np.concatenate([own, near.second.numpy()])
    value = np.concatenate([np.zeros(count, np.float32), near.distance.numpy()])

    # scikit-learn wants the entries of a row by distance
    order = np.lexsort((second, value, first))
    begin = np.searchsorted(first[order], np.arange(count + 1))
    matrix = csr_matrix((value[order], second[order], begin), shape=(count, count))

    clustering = DBSCAN(eps=max_distance, min_samples=min_samples, metric="precomputed")
    labels: IntArray = clustering.fit_predict(matrix).astype(np.int64)
    return labels


def _average(near: JaccardPairs, distances: JaccardDistances, max_distance: float) -> IntArray:
    """Cluster each component of near images by average linkage."""
    first, second = near.first.numpy(), near.second.numpy()
    labels = connected_components(_OWNER, first, second, len(distances))
    labels, _ = split_large(labels, first, second, 1 - near.distance.double().numpy())

    def nearness(rows: IntArray, columns: IntArray) -> FloatArray:
        between = distances.between(torch.from_numpy(rows), torch.from_numpy(columns))
        values: FloatArray = (1 - between.double()).numpy()
        return values

    return cluster_components(labels, nearness, 1 - max_distance)
