"""Second looks at a search: query expansion, and re-ranking of a shortlist."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._checks import check_at_least, check_integer, check_number
from clipreid_kit.distances import l2_normalize
from clipreid_kit.metrics import k_reciprocal_rerank, query_expansion
from clipreid_kit.retrieval.search_forms import Finder, Found

IntArray = npt.NDArray[np.int64]

# returns embeddings by row
Vectors = Callable[[IntArray], Tensor]


@dataclass(frozen=True, slots=True)
class Expand:
    """Search again by a mixture of the query and its nearest images, as :func:`query_expansion`.

    The nearest images are those that the search may find: with ``where`` and ``query_cameras``,
    only these. It helps where identities have many images; with few, wrong ones are mixed in.

    Attributes:
        k: How many of the nearest images are mixed in.
        alpha: Exponent of their weights, usually 3; ``None`` for equal weights.

    Example:
        >>> Expand(k=5, alpha=3.0).k
        5
    """

    k: int = 10
    alpha: float | None = None

    def __post_init__(self) -> None:
        check_integer("Expand", "k", self.k, 1)
        if self.alpha is not None:
            check_at_least("Expand", "alpha", self.alpha, 0)


@dataclass(frozen=True, slots=True)
class Rerank:
    """Order a shortlist by :func:`k_reciprocal_rerank`.

    The shortlist of a query are its nearest images. Its order becomes that of the re-ranked
    distances between this query and the shortlist, with neighbours among these alone, so that an
    answer does not depend on other queries. Among equal distances the more similar image comes
    first. Images behind the shortlist keep their order. Similarities and probabilities stay those
    of the images, so they do not descend any more.

    Attributes:
        shortlist: Number of images.
        k1: Number of neighbours of an image.
        k2: Number of images over which neighbours are averaged; 1 for no averaging.
        lambda_value: Weight of the original distance, 0 to 1.

    Example:
        >>> Rerank(shortlist=50).k1
        20
    """

    shortlist: int = 100
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        check_integer("Rerank", "shortlist", self.shortlist, 2)
        check_integer("Rerank", "k1", self.k1, 1)
        check_integer("Rerank", "k2", self.k2, 1)
        check_number("Rerank", "lambda_value", self.lambda_value)
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(
                f"Rerank: lambda_value is {self.lambda_value}; it has to be from 0 to 1."
            )


def expand_queries(queries: Tensor, nearest: Found, vectors: Vectors, expand: Expand) -> Tensor:
    """Return mixtures of queries and their nearest rows, (Q, D).

    Args:
        queries: (Q, D).
        nearest: The nearest rows of each query.
        vectors: Returns embeddings by row.
        expand: How to mix them.
    """
    mixed = []
    for query, rows in zip(queries, nearest.rows, strict=True):
        found = rows[rows >= 0]
        if len(found) == 0:
            mixed.append(l2_normalize(query[None]))
            continue
        gallery = vectors(found)
        mixed.append(query_expansion(query[None], gallery, k=len(found), alpha=expand.alpha))
    return torch.cat(mixed)


def rerank_shortlist(
    find: Finder, queries: Tensor, vectors: Vectors, num_rows: int, rerank: Rerank
) -> Finder:
    """Return a function that finds rows, and orders the first ones of each query again.

    Args:
        find: Finds a number of rows for each query.
        queries: (Q, D).
        vectors: Returns embeddings by row.
        num_rows: How many rows there are.
        rerank: How to order them.
    """

    def find_again(count: int) -> Found:
        found = find(min(max(count, rerank.shortlist), num_rows))
        rows, similarities = found.rows.copy(), found.similarities.copy()
        for number, query in enumerate(queries):
            own = found.rows[number, : rerank.shortlist]
            own = own[own >= 0]
            if len(own) < 2:
                continue

            order = _order(query, own, vectors, rerank)
            rows[number, : len(own)] = own[order]
            similarities[number, : len(own)] = found.similarities[number, order]
        return Found(rows[:, :count], similarities[:, :count])

    return find_again


def _order(query: Tensor, rows: IntArray, vectors: Vectors, rerank: Rerank) -> IntArray:
    """Return positions of rows, which are nearest first, in the order of re-ranked distances."""
    ascending = np.argsort(rows)  # the order of a gallery decides between equal neighbours
    distances = np.empty(len(rows))
    distances[ascending] = k_reciprocal_rerank(
        query[None].float(),
        vectors(rows[ascending]).float(),
        k1=rerank.k1,
        k2=rerank.k2,
        lambda_value=rerank.lambda_value,
    )[0].numpy()
    return np.argsort(distances, kind="stable")
