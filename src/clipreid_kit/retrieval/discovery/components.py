"""Connected components of accepted pairs, also of a bounded size."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def connected_components(owner: str, first: IntArray, second: IntArray, count: int) -> IntArray:
    """Return the number of the component of every image; -1 for images without a pair.

    Components are numbered by their first image.

    Args:
        owner: The public function, for errors.
        first: (E,), first image of each pair.
        second: (E,), second image of each pair.
        count: Number of images.

    Raises:
        ValueError: If SciPy is not installed, which scikit-learn brings.
    """
    try:
        from scipy.sparse import coo_array, csgraph
    except ImportError:
        raise ValueError(
            f"{owner}: SciPy is needed. Run pip install clipreid_kit[calibrate]."
        ) from None

    ones = np.ones(len(first), dtype=np.int8)
    pairs = coo_array((ones, (first, second)), shape=(count, count))
    _, labels = csgraph.connected_components(pairs, directed=False)
    return renumber(labels, np.bincount(labels, minlength=1)[labels] > 1)


def bounded_components(
    first: IntArray, second: IntArray, values: FloatArray, count: int, most: int
) -> IntArray:
    """Return components of at most ``most`` images, which the largest values join first.

    A pair that would make a component too large is skipped.

    Args:
        first: (E,), first image of each pair.
        second: (E,), second image of each pair.
        values: (E,), values of the pairs.
        count: Number of images.
        most: Largest size of a component.
    """
    parent, sizes = list(range(count)), [1] * count

    def root(image: int) -> int:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    order = np.lexsort((second, first, -values))
    for pair in zip(first[order].tolist(), second[order].tolist(), strict=True):
        one, other = root(pair[0]), root(pair[1])
        if one != other and sizes[one] + sizes[other] <= most:
            parent[other] = one
            sizes[one] += sizes[other]

    labels = np.array([root(image) for image in range(count)])
    return renumber(labels, np.ones(count, dtype=bool))


def renumber(labels: npt.NDArray[np.integer], is_member: BoolArray) -> IntArray:
    """Number the labels of members by their first image; -1 for all others."""
    numbers = np.full(len(labels), -1, dtype=np.int64)
    _, first, inverse = np.unique(labels[is_member], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    numbers[is_member] = rank[inverse]
    return numbers
