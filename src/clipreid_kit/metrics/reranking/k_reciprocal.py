"""k-reciprocal re-ranking, sparse and by blocks of queries."""

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, check_number, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit._threads import OwnThreads, default_threads, own_threads
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace, check_sets
from clipreid_kit.metrics.reranking._reciprocal_sets import (
    SparseRows,
    bounded_ranges,
    meetings_of,
    neighbour_sets,
    transpose_rows,
)

_BLOCK = 1 << 21  # float32 elements that are re-ranked in one step: 8 MB
_PRODUCT = 1 << 23  # of a block of distances, 32 MB: a product of fewer rows takes twice as long
_PANEL = 1024  # gallery rows of a product: few queries and these stay in the cache
_LEAST_DIVIDED = 1 << 20  # elements of a block from which on threads of its own pay
_MAX_MEETINGS = 1 << 19  # pairs of weights that a thread compares in one step


@fixed_options(
    not_kept=("query_embeddings", "gallery_embeddings", "k1", "k2", "lambda_value", "distance")
)
class KReciprocalReranker:
    r"""Distances of queries to a gallery, re-ranked by k-reciprocal encoding; any rows on demand.

    Two images that are each among the other's nearest neighbours are probably of one identity, and
    images of one identity have neighbours in common. The re-ranked distance mixes the original one
    with the Jaccard distance of weighted sets of such neighbours. Use it to gain the last points
    from fixed features. It needs all queries at once, so it does not suit a service that answers
    them one by one.

    Over all N = Q + G images, with :math:`R` the k-reciprocal neighbours and :math:`R^*` their
    expansion,

    .. math::
        V_{ij} \propto \exp(-d_{ij}) \text{ for } j \in R^*(i, k_1), \quad
        \bar V_i = \frac{1}{k_2} \sum_{j \in N(i, k_2)} V_j, \quad
        d^*_{ij} = (1 - \lambda)
            \left(1 - \frac{\sum_l \min(\bar V_{il}, \bar V_{jl})}
            {\sum_l \max(\bar V_{il}, \bar V_{jl})}\right)
            + \lambda\, d_{ij}

    with :math:`d_{ij}` divided by the largest distance of row i. The constructor finds the
    neighbours (memory: a copy of the embeddings, 16 MB for a tile, and a few hundred numbers for
    each image); nothing of size N x N is ever held.

    Args:
        query_embeddings: (Q, D), any scale; float16 to float64.
        gallery_embeddings: (G, D), on the same device.
        k1: Number of neighbours of an image, excluding itself; at least 1. Larger than N - 1 means
            all other images. The expansion uses half of it, rounded to even (20: 10, 15: 8, 5: 2).
        k2: Number of images over which weights are averaged, including the image itself; 1 for no
            averaging.
        lambda_value: Weight of the original distance, 0 to 1.
        distance: ``"cosine"`` for 1 - cosine (half the squared distance of normalised rows), or
            ``"euclidean"`` for squared Euclidean distances of the rows without normalisation.

    Raises:
        ValueError: If widths or devices differ, a set is empty, a row holds NaN or infinity (the
            error names the rows), or an option is out of its range.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> reranker = KReciprocalReranker(gallery[:1], gallery, k1=2, k2=1)
        >>> # the first two rows share all neighbours with the query, the last two none
        >>> [round(d, 3) for d in reranker.block(0, 1)[0].tolist()]
        [0.0, 0.006, 1.0, 0.967]

    Note:
        Neighbours are those of float64 distances, the lower index first among equals and the image
        itself before all others, so ties and near ties are resolved alike on every machine;
        reference code leaves them to the sort. A set has k1 + 1 members including the image itself,
        as in the paper's code, CLIP-ReID and torchreid.

    References:
        Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017,
        eq. 2, 3, 7, 10-12.
    """

    def __init__(
        self,
        query_embeddings: Float[Tensor, "q d"],
        gallery_embeddings: Float[Tensor, "g d"],
        *,
        k1: int = 20,
        k2: int = 6,
        lambda_value: float = 0.3,
        distance: Distance = "cosine",
    ) -> None:
        owner = "KReciprocalReranker"
        _check_options(owner, k1, k2, lambda_value, distance)
        space, num_queries = _read_sets(owner, query_embeddings, gallery_embeddings, distance)
        self._encoding = _encode(space, num_queries, k1, k2, lambda_value)
        self._options = f"k1={k1}, k2={k2}, lambda_value={lambda_value}, distance={distance!r}"
        self.num_queries = num_queries
        self.num_gallery = len(space) - num_queries

    def __repr__(self) -> str:
        """Return sizes and options on one line."""
        sizes = f"num_queries={self.num_queries}, num_gallery={self.num_gallery}"
        return f"KReciprocalReranker({sizes}, {self._options})"

    @torch.no_grad()
    def block(self, start: int, stop: int) -> Float[Tensor, "b g"]:
        """Return the distances of queries ``start`` to ``stop`` (excluded) to the whole gallery.

        Args:
            start: First query.
            stop: One past the last query.

        Returns:
            Distances (stop - start, G) in [0, 1], float32, smaller is nearer.

        Raises:
            ValueError: If the range is empty or exceeds the queries.
        """
        owner = "KReciprocalReranker.block"
        check_integer(owner, "start", start, 0)
        check_integer(owner, "stop", stop, 0)
        if not start < stop <= self.num_queries:
            expected = f"0 <= start < stop <= {self.num_queries}"
            raise fail(owner, expected, f"start={start}, stop={stop}")

        space = self._encoding.space
        nearness = torch.empty(
            stop - start, self.num_gallery, dtype=torch.float32, device=space.rows.device
        )
        with _threads_for(nearness) as threads:
            _multiply(self._encoding, start, nearness, threads)
            _mix(self._encoding, start, nearness, threads)
        return nearness

    def similarity(self, start: int, stop: int) -> Float[Tensor, "b g"]:
        """Return minus :meth:`block`: larger is nearer."""
        return -self.block(start, stop)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Iterate over all queries, some at a time (32 MB): (range of queries, their distances)."""
        step = max(1, _PRODUCT // self.num_gallery)
        for start in range(0, self.num_queries, step):
            stop = min(start + step, self.num_queries)
            yield slice(start, stop), self.block(start, stop)


@torch.no_grad()
def k_reciprocal_rerank(
    query_embeddings: Float[Tensor, "q d"],
    gallery_embeddings: Float[Tensor, "g d"],
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    distance: Distance = "cosine",
) -> Float[Tensor, "q g"]:
    """Compute all distances of :class:`KReciprocalReranker` in one matrix.

    Use it for sets whose Q x G matrix fits into memory (3,368 x 15,913: 214 MB). It is faster than
    the blocks one by one, because the original distances are taken from the search for neighbours.

    Args:
        query_embeddings: (Q, D), any scale; float16 to float64.
        gallery_embeddings: (G, D), on the same device.
        k1: Number of neighbours of an image, excluding itself.
        k2: Number of images over which weights are averaged, including the image itself; 1 for no
            averaging.
        lambda_value: Weight of the original distance, 0 to 1.
        distance: ``"cosine"`` or ``"euclidean"`` (squared, without normalisation).

    Returns:
        Distances (Q, G) in [0, 1], float32, smaller is nearer.

    Raises:
        ValueError: See :class:`KReciprocalReranker`.

    Example:
        >>> rows = torch.eye(3)
        >>> k_reciprocal_rerank(rows[:1], rows, k1=1, k2=1)
        tensor([[0., 1., 1.]])
    """
    owner = "k_reciprocal_rerank"
    _check_options(owner, k1, k2, lambda_value, distance)
    space, num_queries = _read_sets(owner, query_embeddings, gallery_embeddings, distance)
    nearness = torch.empty(
        num_queries, len(space) - num_queries, dtype=torch.float32, device=space.rows.device
    )
    encoding = _encode(space, num_queries, k1, k2, lambda_value, keep_nearness=nearness)
    with _threads_for(nearness) as threads:
        _mix(encoding, 0, nearness, threads)
    return nearness


class _Encoding(NamedTuple):
    """The neighbour sets of queries and gallery.

    Attributes:
        space: Queries, then gallery.
        num_queries: Number of queries.
        lambda_value: Weight of the original distance.
        largest: Largest distance of each query.
        weights: Neighbour sets of the queries.
        postings: For each image of either set, the gallery rows whose set it is in.
    """

    space: SimilaritySpace
    num_queries: int
    lambda_value: float
    largest: Tensor
    weights: SparseRows
    postings: SparseRows


def _check_options(owner: str, k1: int, k2: int, lambda_value: float, distance: Distance) -> None:
    check_integer(owner, "k1", k1, 1)
    check_integer(owner, "k2", k2, 1)
    check_choice(owner, "distance", distance, ("cosine", "euclidean"))
    check_number(owner, "lambda_value", lambda_value)
    if not 0 <= lambda_value <= 1:
        raise fail(owner, "lambda_value in [0, 1]", lambda_value)


@torch.no_grad()
def _read_sets(
    owner: str, query_embeddings: Tensor, gallery_embeddings: Tensor, distance: Distance
) -> tuple[SimilaritySpace, int]:
    """Check both sets, and return them as one space, with the number of queries."""
    names = ("query_embeddings", "gallery_embeddings")
    sets = check_sets(owner, names, (query_embeddings, gallery_embeddings))
    return SimilaritySpace(sets, distance), len(sets[0])


@torch.no_grad()
def _encode(
    space: SimilaritySpace,
    num_queries: int,
    k1: int,
    k2: int,
    lambda_value: float,
    *,
    keep_nearness: Tensor | None = None,
) -> _Encoding:
    """Find the neighbours of all images, and encode their sets.

    Args:
        space: Queries, then gallery.
        num_queries: Number of queries.
        k1: Number of neighbours of an image.
        k2: Number of images over which weights are averaged.
        lambda_value: Weight of the original distance.
        keep_nearness: Where to write the nearness (Q, G) of queries and gallery; ``None`` for not
            keeping it.
    """
    keep = None if keep_nearness is None else (num_queries, keep_nearness)
    weights, largest = neighbour_sets(space, k1, k2, keep=keep)

    # The sets of the queries come first. Those of the gallery are looked up by their members.
    end = int(weights.begin[num_queries])
    of_queries = SparseRows(
        weights.begin[: num_queries + 1], weights.column[:end], weights.weight[:end]
    )
    postings = transpose_rows(weights, num_queries, len(space))

    device = space.rows.device
    return _Encoding(
        space,
        num_queries,
        lambda_value,
        largest[:num_queries],
        _to_device(of_queries, device),
        _to_device(postings, device),
    )


def _to_device(rows: SparseRows, device: torch.device) -> SparseRows:
    return SparseRows(*(part.to(device) for part in rows))


def _threads_for(block: Tensor) -> AbstractContextManager[OwnThreads]:
    """Return threads for a block of distances: those of torch for a small one, or a GPU's."""
    is_small = block.numel() < _LEAST_DIVIDED or block.device.type != "cpu"
    return own_threads(1 if is_small else default_threads())


def _multiply(encoding: _Encoding, start: int, nearness: Tensor, threads: OwnThreads) -> None:
    """Write the nearness of the queries from ``start`` on to the whole gallery."""
    num_queries, num_gallery = nearness.shape
    queries = slice(start, start + num_queries)
    panel = _PANEL if nearness.device.type == "cpu" else num_gallery
    num_panels = threads.count * -(-num_gallery // (panel * threads.count))
    width = -(-num_gallery // num_panels)

    def multiply(first: int) -> None:
        stop = min(first + width, num_gallery)
        gallery = slice(encoding.num_queries + first, encoding.num_queries + stop)
        encoding.space.write_nearness(queries, gallery, nearness[:, first:stop])

    deque(threads.map(multiply, range(0, num_gallery, width)), maxlen=0)


def _mix(encoding: _Encoding, start: int, nearness: Tensor, threads: OwnThreads) -> None:
    """Turn the nearness of the queries from ``start`` on into re-ranked distances, in place."""
    weights, postings = encoding.weights, encoding.postings
    num_queries, num_gallery = nearness.shape

    num_posted = postings.begin[1:] - postings.begin[:-1]
    parts = bounded_ranges(
        weights,
        num_posted,
        start,
        start + num_queries,
        rows=max(1, _BLOCK // num_gallery),
        meetings=_MAX_MEETINGS,
    )
    top = nearness.new_full((), encoding.space.top)

    def mix(part: tuple[int, int]) -> None:
        first, stop = part
        block = nearness[first - start : stop - start]
        distance = torch.sub(top, block, out=block).clamp_(min=0)
        distance.mul_(encoding.lambda_value / encoding.largest[first:stop, None])

        # the Jaccard distance of pairs that do not meet is 1
        met = meetings_of(weights, postings, num_posted, first, stop, num_gallery)
        flat = distance.view(-1)
        distance_of_met = flat[met.pair]
        distance.add_(1 - encoding.lambda_value)

        # weights of a row sum to 1, so the sum of maxima is 2 - the sum of minima
        flat[met.pair] = 0.0
        shared = flat.scatter_add_(0, met.pair, met.minimum)[met.pair]
        jaccard = 1 - shared / (2 - shared)
        distance_of_met.add_(jaccard, alpha=1 - encoding.lambda_value)
        flat[met.pair] = distance_of_met

    deque(threads.map(mix, parts), maxlen=0)
