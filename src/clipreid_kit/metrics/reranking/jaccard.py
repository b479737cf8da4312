"""Jaccard distances of k-reciprocal neighbours within one set of images, sparse."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, check_number
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace, check_sets
from clipreid_kit.metrics.reranking._reciprocal_sets import (
    SparseRows,
    bounded_ranges,
    meetings_of,
    neighbour_sets,
    select_rows,
    transpose_rows,
)

_BLOCK = 1 << 21  # float32 elements of a block of distances: 8 MB
_MAX_MEETINGS = 1 << 20  # pairs of weights that are compared in one step

_OWNER = "JaccardDistances"


class JaccardPairs(NamedTuple):
    """Pairs of images that are near to each other, each in both orders.

    Attributes:
        first: (E,), first image of each pair, ascending.
        second: (E,), second image, ascending for one first image.
        distance: (E,), Jaccard distance in [0, 1], float32.
    """

    first: Tensor
    second: Tensor
    distance: Tensor


@fixed_options(not_kept=("embeddings", "k1", "k2", "distance"))
class JaccardDistances:
    r"""Jaccard distances between the images of one set, by their k-reciprocal neighbours.

    Use them to cluster images without labels: images of one identity have neighbours in common,
    also where their embeddings are not near. It is the distance of :class:`KReciprocalReranker`
    with ``lambda_value=0``, for queries and gallery that are the same images:

    .. math::
        d_{ij} = 1 - \frac{\sum_l \min(\bar V_{il}, \bar V_{jl})}
        {\sum_l \max(\bar V_{il}, \bar V_{jl})}

    with the averaged weights :math:`\bar V` defined there. The constructor finds the neighbours and
    keeps a few hundred numbers for each image: N images take memory of the order N k1, and nothing
    of size N x N is ever held. The sets are compared on the CPU, so that distances are the same
    whatever device the embeddings are on, and :math:`d_{ij} = d_{ji}` to the last bit.

    Args:
        embeddings: (N, D), any scale; float16 to float64. N >= 2.
        k1: Number of neighbours of an image, excluding itself; at least 1. Larger than N - 1 means
            all other images. The expansion uses half of it.
        k2: Number of images over which weights are averaged, including the image itself; 1 for no
            averaging.
        distance: ``"cosine"``, or ``"euclidean"`` for the rows without normalisation.

    Raises:
        ValueError: If there are fewer than two images, a row holds NaN or infinity (the error names
            the rows), or an option is out of its range.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> distances = JaccardDistances(rows, k1=1, k2=1)
        >>> distances.between(torch.tensor([0]), torch.arange(4))
        tensor([[0.0000, 0.0065, 1.0000, 1.0000]])
        >>> distances.within(0.5).first.tolist(), distances.within(0.5).second.tolist()
        ([0, 1, 2, 3], [1, 0, 3, 2])

    Note:
        Neighbours are those of exact distances, the lower index first among equals. Code of
        clustering methods, such as Cluster Contrast's, does not divide the distances in the
        exponent of the weights by the largest one of the row, as re-ranking does.

    References:
        Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017,
        eq. 2, 3, 7, 10 and 11.
    """

    @torch.no_grad()
    def __init__(
        self,
        embeddings: Float[Tensor, "n d"],
        *,
        k1: int = 30,
        k2: int = 6,
        distance: Distance = "cosine",
    ) -> None:
        check_integer(_OWNER, "k1", k1, 1)
        check_integer(_OWNER, "k2", k2, 1)
        check_choice(_OWNER, "distance", distance, ("cosine", "euclidean"))
        checked = check_sets(_OWNER, ("embeddings",), (embeddings,))
        if len(checked[0]) < 2:
            raise ValueError(
                f"{_OWNER}: a single image has no neighbours; pass embeddings of two or more."
            )

        weights, _ = neighbour_sets(SimilaritySpace(checked, distance), k1, k2)
        self._weights = weights
        self._options = f"k1={k1}, k2={k2}, distance={distance!r}"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._weights.begin) - 1

    def __repr__(self) -> str:
        """Return the number of images and the options on one line."""
        return f"JaccardDistances(num_images={len(self)}, {self._options})"

    @torch.no_grad()
    def within(self, max_distance: float) -> JaccardPairs:
        """Return all pairs of different images that are at most so far from each other.

        Args:
            max_distance: In (0, 1); images without a common neighbour are at distance 1.

        Returns:
            The pairs, each in both orders; empty if there is none. Equal images are at distance 0,
            and an image is no pair with itself.

        Raises:
            ValueError: If ``max_distance`` is out of its range.
        """
        check_number(_OWNER, "max_distance", max_distance)
        if not 0 < max_distance < 1:
            raise ValueError(
                f"{_OWNER}: max_distance is {max_distance}; it has to be between 0 and 1, both "
                "excluded."
            )

        firsts, seconds, values = [], [], []
        for start, distances in self._blocks(self._weights, self._weights):
            first, second = torch.nonzero(distances <= max_distance, as_tuple=True)
            value = distances[first, second]

            is_pair = first + start != second
            firsts.append(first[is_pair] + start)
            seconds.append(second[is_pair])
            values.append(value[is_pair])
        return JaccardPairs(torch.cat(firsts), torch.cat(seconds), torch.cat(values))

    @torch.no_grad()
    def between(self, rows: Int[Tensor, " a"], columns: Int[Tensor, " b"]) -> Float[Tensor, "a b"]:
        """Return the distances of some images to others.

        Args:
            rows: Numbers of the images, in [0, N).
            columns: Numbers of the others.

        Returns:
            Distances (A, B) in [0, 1], float32; 0 between an image and itself.

        Raises:
            ValueError: If a number is out of its range.
        """
        for name, numbers in (("rows", rows), ("columns", columns)):
            self._check_numbers(name, numbers)
        if not len(rows) or not len(columns):
            return torch.zeros(len(rows), len(columns), dtype=torch.float32, device="cpu")

        chosen = select_rows(self._weights, rows), select_rows(self._weights, columns)
        distances = torch.cat([block for _, block in self._blocks(*chosen)])
        return distances.masked_fill_(rows[:, None] == columns, 0.0)

    def _check_numbers(self, name: str, numbers: Tensor) -> None:
        if not len(numbers):
            return
        least, most = int(numbers.min()), int(numbers.max())
        if least < 0 or most >= len(self):
            raise ValueError(
                f"{_OWNER}: {name} has numbers from {least} to {most}; there are {len(self)} "
                "images."
            )

    def _blocks(self, rows: SparseRows, columns: SparseRows) -> Iterator[tuple[int, Tensor]]:
        """Yield the first row of each block, and the distances of its rows to all columns."""
        postings = transpose_rows(columns, 0, len(self))
        num_posted = postings.begin[1:] - postings.begin[:-1]
        num_rows, num_columns = len(rows.begin) - 1, len(columns.begin) - 1

        parts = bounded_ranges(
            rows,
            num_posted,
            0,
            num_rows,
            rows=max(1, _BLOCK // num_columns),
            meetings=_MAX_MEETINGS,
        )
        for first, stop in parts:
            met = meetings_of(rows, postings, num_posted, first, stop, num_columns)
            shared = met.sums((stop - first) * num_columns).view(stop - first, num_columns)
            # weights of a row sum to 1, so the sum of maxima is 2 - the sum of minima
            distances = shared.div_(2 - shared).neg_().add_(1).clamp_(min=0)
            yield first, distances
