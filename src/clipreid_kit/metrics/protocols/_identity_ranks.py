"""Rank of the first match among identities, each at the place of its nearest image."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._similarity.exact_similarity import (
    Distance,
    all_products,
    combine_products,
    split_rows,
)
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._query_groups import QueryGroup, Sides

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BLOCK = 1 << 21  # similarities that are held at once


def identity_ranks(
    sides: Sides, draws: Sequence[Sequence[QueryGroup]], distance: Distance, ties: Ties
) -> list[FloatArray]:
    """Return the rank of each query's identity among all, for each draw; 0 without a match.

    An identity stands where its nearest image does, so several images of one wrong identity above
    the match count once. The similarities are exact, as those of the evaluator.

    Args:
        sides: Embeddings and columns.
        draws: The groups of each draw.
        distance: Distance of the embeddings.
        ties: Where a match stands that is tied with other identities.
    """
    ranks = [np.zeros(len(sides.queries)) for _ in draws]
    used = np.unique(np.concatenate([group.gallery for groups in draws for group in groups]))
    gallery = sides.gallery.take(used)

    for own, similarities in _blocks(sides, gallery, distance):
        for of_draw, groups in zip(ranks, draws, strict=True):
            for group in groups:
                inside = np.isin(own, group.queries)
                rows = own[inside]
                of_group = similarities[inside][:, np.searchsorted(used, group.gallery)]
                of_draw[rows] = _ranks(sides, rows, group.gallery, of_group, ties)
    return ranks


def _blocks(
    sides: Sides, gallery: Tensor, distance: Distance
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Yield queries, and their exact similarities with all rows of the gallery."""
    split_gallery = split_rows(gallery, distance)
    step = max(1, _BLOCK // len(gallery))
    for start in range(0, len(sides.queries), step):
        stop = min(start + step, len(sides.queries))
        queries = split_rows(sides.queries.block(start, stop), distance)
        products = all_products(queries, split_gallery)
        similarities = combine_products(products, queries, split_gallery, distance)
        yield np.arange(start, stop), similarities.cpu().numpy()


def _ranks(
    sides: Sides, queries: IntArray, gallery: IntArray, similarities: FloatArray, ties: Ties
) -> FloatArray:
    """Ranks of some queries in one gallery, from their similarities (Q, G)."""
    query_ids, gallery_ids = sides.ids[0][queries], sides.ids[1][gallery]
    is_own = query_ids[:, None] == gallery_ids[None]
    is_left_out = np.zeros_like(is_own)
    for of_queries, of_gallery in sides.exclude:
        is_left_out |= is_own & (of_queries[queries][:, None] == of_gallery[gallery][None])

    kept = np.where(is_left_out, -np.inf, similarities)
    own = np.where(is_own, kept, -np.inf).max(axis=1, initial=-np.inf)

    # the nearest image of each identity: rows in the order of the identities, cut where one begins
    identities, of_row = np.unique(gallery_ids, return_inverse=True)
    order = np.argsort(of_row, kind="stable")
    begin = np.searchsorted(of_row[order], np.arange(len(identities)))
    nearest = np.maximum.reduceat(kept[:, order], begin, axis=1)

    is_wrong = query_ids[:, None] != identities[None]
    above = (is_wrong & (nearest > own[:, None])).sum(axis=1)
    tied = (is_wrong & (nearest == own[:, None])).sum(axis=1)
    share_of_tied = {"pessimistic": 1.0, "optimistic": 0.0, "mean": 0.5}[ties]
    return np.where(np.isneginf(own), 0.0, 1.0 + above + share_of_tied * tied)
