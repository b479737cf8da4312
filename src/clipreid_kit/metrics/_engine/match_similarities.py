"""Exact similarities of the matches."""

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit.metrics._engine.embedding_rows import Rows
from clipreid_kit.metrics._engine.exact_similarity import (
    Distance,
    Products,
    all_products,
    similarity,
    split_rows,
)
from clipreid_kit.metrics._engine.identity_matches import Labels, Pairs
from clipreid_kit.metrics._engine.rescore import ExactScorer

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
_BATCH = 1 << 10  # gallery rows that are split at once


def match_scores(
    queries: Rows,
    gallery: Rows,
    start: int,
    stop: int,
    labels: Labels,
    pairs: Pairs,
    distance: Distance,
) -> FloatArray:
    """Exact similarity of every pair of one identity, for the queries ``start`` to ``stop`` of the labels.

    It is NaN for queries without a match, which need none.
    All queries of an identity are compared with all its gallery rows by one small product.
    """
    codes = labels.queries[start:stop]
    scores = np.full(len(pairs.rows), np.nan)
    wanted = np.zeros(len(codes), dtype=bool)
    wanted[pairs.query[pairs.valid]] = True
    members = np.flatnonzero(wanted)
    members = members[np.argsort(codes[members], kind="stable")]
    found, begin = np.unique(codes[members], return_index=True)
    groups = np.split(members, begin[1:])
    pieces: list[
        tuple[IntArray, int, int, int]
    ] = []  # queries, places in labels.order, place in the identity
    waiting = 0
    for group, first, last in zip(groups, *(x.tolist() for x in labels.span(found)), strict=False):
        for left in range(first, last, _BATCH):
            right = min(left + _BATCH, last)
            if waiting + right - left > _BATCH:
                _score(pieces, scores, queries, gallery, labels, pairs, distance)
                pieces, waiting = [], 0
            pieces.append((group, left, right, left - first))
            waiting += right - left
    if pieces:
        _score(pieces, scores, queries, gallery, labels, pairs, distance)
    return scores


def listed_scores(queries: Rows, gallery: Rows, pairs: Pairs, distance: Distance) -> FloatArray:
    """Exact similarity of every pair, whatever they have in common."""
    scores, query = np.empty(len(pairs.rows)), pairs.query
    for start in range(0, len(query), _BATCH):
        part = slice(start, start + _BATCH)
        scorer = ExactScorer(
            queries.block(0, len(queries)), gallery.take(pairs.rows[part]), distance
        )
        scores[part], _ = scorer(query[part], np.arange(len(query[part])))
    return scores


def _score(
    pieces: list[tuple[IntArray, int, int, int]],
    scores: FloatArray,
    queries: Rows,
    gallery: Rows,
    labels: Labels,
    pairs: Pairs,
    distance: Distance,
) -> None:
    rows = np.concatenate([labels.order[start:stop] for _, start, stop, _ in pieces])
    of_gallery = split_rows(gallery.take(rows), distance)
    of_queries = split_rows(queries.take(np.concatenate([group for group, *_ in pieces])), distance)
    products: list[Products] = []
    left, right, target = [], [], []
    q = g = 0
    for group, start, stop, place in pieces:
        size, length = len(group), stop - start
        block = all_products(
            of_queries.take(slice(q, q + size)), of_gallery.take(slice(g, g + length))
        )
        products.append(Products(*(part.reshape(-1) for part in block)))
        left.append(np.repeat(np.arange(q, q + size), length))
        right.append(np.tile(np.arange(g, g + length), size))
        target.append(((pairs.begin[group] + place)[:, None] + np.arange(length)).ravel())
        q, g = q + size, g + length
    device = of_queries.norm.device
    columns = [torch.from_numpy(np.concatenate(x)).to(device) for x in (left, right)]
    joined = Products(*(torch.cat(part) for part in zip(*products, strict=True)))
    empty = torch.empty(0, device=device)
    sides = [
        side._replace(parts=empty, norm=side.norm[x], scale=side.scale[x], square=side.square[:, x])
        for side, x in zip((of_queries, of_gallery), columns, strict=True)
    ]
    values = similarity(joined, sides[0], sides[1], distance)
    scores[np.concatenate(target)] = values.cpu().numpy()
