"""Exact similarities of the matches themselves."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import (
    Distance,
    PartProducts,
    SplitRows,
    all_products,
    combine_products,
    split_rows,
)
from clipreid_kit._similarity.rescore import ExactScorer
from clipreid_kit.metrics._engine.identity_matches import IdentityMatches
from clipreid_kit.metrics._engine.match_pairs import MatchPairs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
_BATCH = 1 << 10  # gallery rows that are split at once


class _Piece(NamedTuple):
    """The queries of one identity, and some of its gallery rows.

    Attributes:
        queries: Queries of the identity.
        start: First of the rows in ``rows_by_identity``.
        stop: One past the last.
        offset: Number of rows of the identity before ``start``.
    """

    queries: IntArray
    start: int
    stop: int
    offset: int


def identity_similarities(
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    start: int,
    stop: int,
    identities: IdentityMatches,
    pairs: MatchPairs,
    distance: Distance,
) -> FloatArray:
    """Compute the exact similarity of every pair of one identity.

    All queries of an identity are compared with all its gallery rows by one small product.

    Args:
        queries: Rows of the queries of the range.
        gallery: Rows of the gallery.
        start: First query of the range.
        stop: One past the last.
        identities: Identities of all queries and of the gallery.
        pairs: The pairs of the range.
        distance: ``"cosine"`` or ``"euclidean"``.

    Returns:
        A similarity for each pair; NaN for queries without a match, where none is needed.
    """
    codes = identities.query_codes[start:stop]
    similarities = np.full(len(pairs.rows), np.nan)

    has_match = np.zeros(len(codes), dtype=bool)
    has_match[pairs.query[pairs.valid]] = True
    members = np.flatnonzero(has_match)
    members = members[np.argsort(codes[members], kind="stable")]
    distinct, begin = np.unique(codes[members], return_index=True)
    groups = np.split(members, begin[1:])
    first_rows, last_rows = (side.tolist() for side in identities.span(distinct))

    # pieces wait until they hold a batch of gallery rows
    waiting: list[_Piece] = []
    num_waiting = 0
    for group, first, last in zip(groups, first_rows, last_rows, strict=False):
        for left in range(first, last, _BATCH):
            right = min(left + _BATCH, last)
            if num_waiting + right - left > _BATCH:
                _compare(waiting, similarities, queries, gallery, identities, pairs, distance)
                waiting = []
                num_waiting = 0
            waiting.append(_Piece(group, left, right, left - first))
            num_waiting += right - left
    if waiting:
        _compare(waiting, similarities, queries, gallery, identities, pairs, distance)

    return similarities


def listed_similarities(
    queries: EmbeddingRows, gallery: EmbeddingRows, pairs: MatchPairs, distance: Distance
) -> FloatArray:
    """Compute the exact similarity of every pair, in any order and grouping."""
    query = pairs.query
    similarities = np.empty(len(pairs.rows))
    for start in range(0, len(query), _BATCH):
        part = slice(start, start + _BATCH)
        rows = gallery.take(pairs.rows[part])
        scorer = ExactScorer(queries.block(0, len(queries)), rows, distance)
        similarities[part], _ = scorer(query[part], np.arange(len(query[part])))
    return similarities


def _compare(
    pieces: list[_Piece],
    similarities: FloatArray,
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    identities: IdentityMatches,
    pairs: MatchPairs,
    distance: Distance,
) -> None:
    """Write the similarities of the pairs of all pieces into ``similarities``."""
    by_identity = identities.rows_by_identity
    rows = np.concatenate([by_identity[piece.start : piece.stop] for piece in pieces])
    split_gallery = split_rows(gallery.take(rows), distance)
    rows = np.concatenate([piece.queries for piece in pieces])
    split_queries = split_rows(queries.take(rows), distance)

    products: list[PartProducts] = []
    query_columns, gallery_columns, targets = [], [], []
    q = g = 0
    for piece in pieces:
        num_queries, num_rows = len(piece.queries), piece.stop - piece.start
        block = all_products(
            split_queries.take(slice(q, q + num_queries)),
            split_gallery.take(slice(g, g + num_rows)),
        )
        products.append(PartProducts(*(part.reshape(-1) for part in block)))

        query_columns.append(np.repeat(np.arange(q, q + num_queries), num_rows))
        gallery_columns.append(np.tile(np.arange(g, g + num_rows), num_queries))
        first_pair = pairs.begin[piece.queries] + piece.offset
        targets.append((first_pair[:, None] + np.arange(num_rows)).ravel())
        q += num_queries
        g += num_rows

    # one call for the pairs of all pieces: the element-wise part is cheap, many calls are not
    joined = PartProducts(*(torch.cat(parts) for parts in zip(*products, strict=True)))
    values = combine_products(
        joined,
        _without_parts(split_queries, np.concatenate(query_columns)),
        _without_parts(split_gallery, np.concatenate(gallery_columns)),
        distance,
    )
    similarities[np.concatenate(targets)] = values.cpu().numpy()


def _without_parts(side: SplitRows, columns: IntArray) -> SplitRows:
    """Return some rows without their parts, which only the products need."""
    chosen = torch.from_numpy(columns).to(side.norm.device)
    return SplitRows(
        parts=torch.empty(0, dtype=torch.float32, device=side.norm.device),
        norm=side.norm[chosen],
        scale=side.scale[chosen],
        square=side.square[:, chosen],
    )
