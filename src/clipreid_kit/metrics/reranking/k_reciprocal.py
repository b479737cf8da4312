"""k-reciprocal re-ranking, sparse and by blocks of queries."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.nearest_neighbours import nearest_others
from clipreid_kit.metrics._engine.similarity_space import Space, checked_sets
from clipreid_kit.metrics.reranking.reciprocal_sets import (
    Sparse,
    averaged,
    ranges,
    reciprocal_weights,
    transposed,
)

_BLOCK = 1 << 21  # float32 elements of a block of distances: 8 MB
_SAME = 2.0**-20  # below this the largest distance of a row is rounding
_EXPANDED = 1 << 20  # pairs of weights that meet in one step


class KReciprocalReranker:
    r"""Distances of queries to a gallery, re-ranked by k-reciprocal encoding; any rows of them on demand.

    Two images that are each among the other's nearest neighbours are probably of one identity, and images of one
    identity have their neighbours in common. The distance given here mixes the original one with the Jaccard distance
    of weighted sets of such neighbours. Use it to squeeze the last points out of fixed features; it needs all queries
    at once, so it is not for a service that answers them one by one.

    Over all N = Q + G images, with :math:`R` the k-reciprocal neighbours and :math:`R^*` their expansion,

    .. math::
        V_{ij} \propto \exp(-d_{ij}) \text{ for } j \in R^*(i, k_1), \quad
        \bar V_i = \frac{1}{k_2} \sum_{j \in N(i, k_2)} V_j, \quad
        d^*_{ij} = (1 - \lambda)
            \left(1 - \frac{\sum_l \min(\bar V_{il}, \bar V_{jl})}{\sum_l \max(\bar V_{il}, \bar V_{jl})}\right)
            + \lambda\, d_{ij}

    with :math:`d_{ij}` divided by the largest distance of row i. The constructor finds the neighbours (memory: the
    embeddings once more, 16 MB for a tile, and a few hundred numbers for each image); nothing of N x N is ever held.

    Args:
        query_embeddings: (Q, D), any scale; float16 to float64.
        gallery_embeddings: (G, D), on the same device.
        k1: Neighbours of an image, itself not counted, 1 or more. More than the N - 1 others there are means all of
            them; the half of it that the expansion uses is rounded to even (20: 10, 15: 8, 5: 2).
        k2: Images over which weights are averaged, the image itself counted; 1 for no averaging.
        lambda_value: Share of the original distance, 0 to 1.
        distance: ``"cosine"`` for 1 - cosine (the same as the squared distance of normalised rows), or
            ``"euclidean"`` for squared Euclidean distances of the rows as they are.

    Raises:
        ValueError: If widths or devices disagree, a set is empty, a row holds NaN or infinity (rows named), or an
            option is out of its range.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> reranker = KReciprocalReranker(gallery[:1], gallery, k1=2, k2=1)
        >>> [round(d, 3) for d in reranker.block(0, 1)[0].tolist()]  # two in common with the query, two nothing
        [0.0, 0.006, 1.0, 0.967]

    Note:
        Neighbours are those of float64 distances, the lower index first among equals and the image itself before all,
        so ties and near ties are settled alike on every machine; reference code leaves them to the sort. A set has k1
        + 1 members, the image itself among them, as in the paper's code, CLIP-ReID and torchreid.

    References:
        Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, eq. 2, 3, 7, 10-12.
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
        encoding = _encode(
            "KReciprocalReranker",
            query_embeddings,
            gallery_embeddings,
            k1,
            k2,
            lambda_value,
            distance,
        )
        self._encoding = encoding
        self.num_queries = encoding.num_queries
        self.num_gallery = len(encoding.space) - encoding.num_queries

    @torch.no_grad()
    def block(self, start: int, stop: int) -> Float[Tensor, "b g"]:
        """Distances of queries ``start`` to ``stop`` (not included) to the whole gallery, in [0, 1], float32.

        Raises:
            ValueError: If the range is empty or leaves the queries.
        """
        if not 0 <= start < stop <= self.num_queries:
            raise fail(
                "KReciprocalReranker.block",
                f"0 <= start < stop <= {self.num_queries}",
                f"{start}, {stop}",
            )
        gallery = slice(self.num_queries, len(self._encoding.space))
        return _mixed(
            self._encoding, start, self._encoding.space.nearness(slice(start, stop), gallery)
        )

    def similarity(self, start: int, stop: int) -> Float[Tensor, "b g"]:
        """Minus :meth:`block`: larger is nearer."""
        return -self.block(start, stop)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """All queries, a few at a time (8 MB): (which, their distances)."""
        step = max(1, _BLOCK // self.num_gallery)
        for start in range(0, self.num_queries, step):
            part = slice(start, min(start + step, self.num_queries))
            yield part, self.block(part.start, part.stop)


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
    """All distances of :class:`KReciprocalReranker` in one matrix.

    For sets whose Q x G matrix is welcome (3,368 x 15,913: 214 MB). Sooner than the blocks one by one, because the
    original distances are taken from the search for neighbours.

    Args:
        query_embeddings: (Q, D), any scale; float16 to float64.
        gallery_embeddings: (G, D), on the same device.
        k1: Neighbours of an image, itself not counted.
        k2: Images over which weights are averaged, the image itself counted; 1 for no averaging.
        lambda_value: Share of the original distance, 0 to 1.
        distance: ``"cosine"`` or ``"euclidean"`` (squared, rows as they are).

    Returns:
        Distances (Q, G) in [0, 1], float32, smaller is nearer.

    Raises:
        ValueError: See :class:`KReciprocalReranker`.

    Example:
        >>> rows = torch.eye(3)
        >>> k_reciprocal_rerank(rows[:1], rows, k1=1, k2=1)
        tensor([[0., 1., 1.]])
    """
    out = torch.empty(0)
    sides: tuple[object, object] = query_embeddings, gallery_embeddings
    if all(isinstance(side, Tensor) and side.ndim == 2 for side in sides):
        out = torch.empty(
            query_embeddings.shape[0], gallery_embeddings.shape[0], device=query_embeddings.device
        )
    encoding = _encode(
        "k_reciprocal_rerank",
        query_embeddings,
        gallery_embeddings,
        k1,
        k2,
        lambda_value,
        distance,
        out,
    )
    return _mixed(encoding, 0, out)


class _Encoding(NamedTuple):
    space: Space
    num_queries: int
    share: float  # of the original distance
    largest: Tensor  # distance of each query
    weights: Sparse  # of the queries
    postings: Sparse  # for each image of either set, the gallery rows whose set it is in


@torch.no_grad()
def _encode(
    owner: str,
    query_embeddings: Tensor,
    gallery_embeddings: Tensor,
    k1: int,
    k2: int,
    lambda_value: float,
    distance: Distance,
    keep: Tensor | None = None,
) -> _Encoding:
    check_integer(owner, "k1", k1, 1)
    check_integer(owner, "k2", k2, 1)
    check_choice(owner, "distance", distance, ("cosine", "euclidean"))
    if not 0 <= lambda_value <= 1:
        raise fail(owner, "lambda_value in [0, 1]", lambda_value)
    names = ("query_embeddings", "gallery_embeddings")
    space = Space(checked_sets(owner, names, (query_embeddings, gallery_embeddings)), distance)
    total, num_queries = len(space), query_embeddings.shape[0]
    others, least = nearest_others(
        space,
        min(max(k1, k2 - 1), total - 1),
        (round(k1 / 2), k1, k2 - 1),
        keep=None if keep is None else (num_queries, keep),
    )
    lists = np.concatenate([np.arange(total)[:, None], others.cpu().numpy()], axis=1)
    largest = space.top - least
    largest = torch.where(
        largest > _SAME, largest, torch.inf
    )  # rows that are all the same have distance 0
    weights = averaged(reciprocal_weights(space, lists, largest, k1), lists[:, :k2])
    device = space.rows.device
    last = int(weights.begin[num_queries])
    return _Encoding(
        space,
        num_queries,
        lambda_value,
        largest[:num_queries],
        Sparse(
            *(
                x.to(device)
                for x in (
                    weights.begin[: num_queries + 1],
                    weights.column[:last],
                    weights.weight[:last],
                )
            )
        ),
        Sparse(*(x.to(device) for x in transposed(weights, num_queries, total))),
    )


def _mixed(encoding: _Encoding, start: int, out: Tensor) -> Tensor:
    """Turn nearness of the queries from ``start`` on into final distances, in place."""
    weights, postings, share = encoding.weights, encoding.postings, encoding.share
    posted = postings.begin[1:] - postings.begin[:-1]
    meetings = torch.cat([posted.new_zeros(1), posted[weights.column].cumsum(0)])[
        weights.begin
    ].tolist()
    step = max(1, _BLOCK // out.shape[1])
    first = start
    while first < start + out.shape[0]:
        stop = first + 1
        while (
            stop < min(first + step, start + out.shape[0])
            and meetings[stop + 1] - meetings[first] <= _EXPANDED
        ):
            stop += 1
        shared = _shared(weights, postings, posted, first, stop, out.shape[1])
        jaccard = (
            shared.div_(2 - shared).neg_().add_(1)
        )  # rows sum to 1: sum of maxima = 2 - sum of minima
        block = out[first - start : stop - start]
        block.neg_().add_(encoding.space.top).clamp_(min=0).mul_(
            share / encoding.largest[first:stop, None]
        )
        block.add_(jaccard, alpha=1 - share)
        first = stop
    return out


def _shared(
    weights: Sparse, postings: Sparse, posted: Tensor, first: int, stop: int, num_gallery: int
) -> Tensor:
    """Sum of minima of the weights of some queries and of every gallery row, through the images both have."""
    entries = slice(int(weights.begin[first]), int(weights.begin[stop]))
    column = weights.column[entries]
    lengths = weights.begin[first + 1 : stop + 1] - weights.begin[first:stop]
    owner = torch.repeat_interleave(torch.arange(stop - first, device=column.device), lengths)
    counts = posted[column]
    met = ranges(postings.begin[column], counts)
    values = torch.minimum(
        torch.repeat_interleave(weights.weight[entries], counts), postings.weight[met]
    )
    places = torch.repeat_interleave(owner * num_gallery, counts).add_(postings.column[met])
    out = torch.zeros((stop - first) * num_gallery, device=column.device)
    return out.scatter_add_(0, places, values).view(stop - first, num_gallery)
