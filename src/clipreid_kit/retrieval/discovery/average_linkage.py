"""Average linkage of the images of one component."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from clipreid_kit.retrieval.discovery.components import bounded_components, renumber

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# images whose pairs are all held at once: 100 MB, twice
MOST_IMAGES = 5000
_ROWS = 256

# values (A, B) of the pairs of some images and others
PairValues = Callable[[IntArray, IntArray], FloatArray]


def average_linkage(images: IntArray, values: PairValues, least: float) -> IntArray:
    """Cluster images: join clusters while the mean value of their pairs is at least ``least``.

    The two clusters with the largest mean are joined first; by SciPy.

    Args:
        images: (N,), N >= 2.
        values: Values of pairs of images.
        least: Least mean value.

    Returns:
        The number of the cluster of each image.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    count = len(images)
    condensed = np.empty(count * (count - 1) // 2)
    end = 0
    for start in range(0, count, _ROWS):
        stop = min(start + _ROWS, count)
        block = values(images[start:stop], images[start:])
        for place in range(stop - start):
            row = block[place, place + 1 :]
            condensed[end : end + len(row)] = row
            end += len(row)

    largest = max(1.0, float(condensed.max()))
    joined = linkage(np.subtract(largest, condensed, out=condensed), method="average")
    clusters: IntArray = fcluster(joined, largest - least, criterion="distance").astype(np.int64)
    return clusters


def cluster_components(labels: IntArray, values: PairValues, least: float) -> IntArray:
    """Cluster the images of each component; -1 for images that are alone then.

    Args:
        labels: (N,), component of every image, -1 for none.
        values: Values of pairs of images.
        least: Least mean value.

    Returns:
        The number of the cluster of each image, counted in the order of first images.
    """
    clusters = np.full(len(labels), -1, dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0) :]

    next_label = 0
    for images in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(images) < 2:
            continue
        own = average_linkage(images, values, least)
        clusters[images] = next_label + own
        next_label += int(own.max()) + 1

    sizes = np.bincount(clusters[clusters >= 0], minlength=1)
    is_alone = (clusters < 0) | (sizes[clusters] < 2)
    return renumber(clusters, ~is_alone)


def split_large(
    labels: IntArray, first: IntArray, second: IntArray, pair_values: FloatArray
) -> tuple[IntArray, int]:
    """Split components of more images than average linkage holds at once.

    Args:
        labels: (N,), component of every image, -1 for none.
        first: (E,), first image of each accepted pair.
        second: (E,), second image of each accepted pair.
        pair_values: (E,), values of the pairs.

    Returns:
        New labels, with gaps in their numbers, and the number of images in split components.
    """
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    split = labels.copy()
    num_split = 0
    next_label = len(sizes)

    for label in np.flatnonzero(sizes > MOST_IMAGES).tolist():
        images = np.flatnonzero(labels == label)
        is_inside = labels[first] == label

        # Inside a component, images are numbered by their place in `images`.
        parts = bounded_components(
            np.searchsorted(images, first[is_inside]),
            np.searchsorted(images, second[is_inside]),
            pair_values[is_inside],
            len(images),
            MOST_IMAGES,
        )

        split[images] = next_label + parts
        next_label += int(parts.max()) + 1
        num_split += len(images)

    return split, num_split
