"""How many wrong gallery items stand above each right one: all that CMC, AP and mINP need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics.similarity import FastSimilarity, Similarity, exact_similarity, row_norms

Ties = Literal["pessimistic", "optimistic"]
IntArray = npt.NDArray[np.int64]
_BLOCK = 1 << 23  # float32 elements of a block of similarities: 32 MB


@dataclass(slots=True)
class _Undecided:
    """Positives of one query that the error bound leaves open, and the negatives too near to them."""

    query: int
    which: IntArray  # positives, as places in the query's list
    begin: IntArray  # for each of them, its negatives are near[begin:end]
    end: IntArray
    near: IntArray  # gallery rows


def negatives_above(
    queries: Tensor,
    gallery: Tensor,
    same_identity: Sequence[IntArray],
    positives: Sequence[IntArray],
    *,
    similarity: Similarity = "cosine",
    ties: Ties = "pessimistic",
) -> list[IntArray]:
    """For each positive of each query, count the gallery items of other identities that stand above it.

    Neither the matrix of all similarities nor a sorted gallery is ever built: a block of queries is scored by one
    float32 matrix product, the error bound decides almost every pair, and the few undecided ones are scored again by
    the exact similarity. So the counts are those of the exact similarities, whatever the machine.

    Args:
        queries: Rows (Q, D), finite.
        gallery: Rows (G, D), finite, G >= 1.
        same_identity: For each query, the gallery rows of its identity: none of them is a negative.
        positives: For each query, those of them that count as right; may be empty.
        similarity: ``"cosine"`` or ``"euclidean"``.
        ties: Whether a negative exactly as near as the positive stands above it (``"pessimistic"``) or not.

    Returns:
        For each query an array as long as its positives, in ascending order.
    """
    query_norms, gallery_norms = row_norms(queries), row_norms(gallery)
    fast = FastSimilarity(queries, gallery, query_norms, gallery_norms, similarity)
    rows_in_block = max(1, min(512, _BLOCK // gallery.shape[0]))
    buffer = torch.empty(rows_in_block, gallery.shape[0], dtype=torch.float32, device=queries.device)
    counts: list[IntArray] = []
    for start in range(0, queries.shape[0], rows_in_block):
        stop = min(start + rows_in_block, queries.shape[0])
        block = fast.block(start, stop, buffer[: stop - start]).cpu().numpy()
        undecided: list[_Undecided] = []
        counts.extend(
            _count_certain(i, block[i - start], same_identity[i], positives[i], 2 * fast.error, undecided)
            for i in range(start, stop)
        )
        if undecided:
            _decide(undecided, counts, positives, queries, gallery, query_norms, gallery_norms, similarity, ties)
    for count in counts:
        count.sort()
    return counts


def _count_certain(
    query: int,
    row: npt.NDArray[np.float32],
    same_identity: IntArray,
    positives: IntArray,
    window: float,
    undecided: list[_Undecided],
) -> IntArray:
    """Count the negatives that are certainly above each positive; note the positives with others within the window."""
    if len(positives) == 0:
        return np.empty(0, dtype=np.int64)
    of_positive = row[positives].astype(np.float64)
    row[same_identity] = -np.inf
    lowest = np.nextafter(np.float32(of_positive.min() - window), np.float32(-np.inf))
    candidates = np.flatnonzero(row >= lowest)
    order = np.argsort(row[candidates], kind="stable")
    ascending = row[candidates][order].astype(np.float64)
    begin = np.searchsorted(ascending, of_positive - window, side="left")
    end = np.searchsorted(ascending, of_positive + window, side="right")
    open_ones = np.flatnonzero(end > begin)
    if len(open_ones):
        # the negatives inside any of the windows, and where each window lies among them
        edges = np.zeros(len(ascending) + 1, dtype=np.int64)
        np.add.at(edges, begin[open_ones], 1)
        np.add.at(edges, end[open_ones], -1)
        inside = np.cumsum(edges[:-1]) > 0
        place = np.concatenate([[0], np.cumsum(inside)])
        near = candidates[order[inside]]
        undecided.append(_Undecided(query, open_ones, place[begin[open_ones]], place[end[open_ones]], near))
    return (len(ascending) - end).astype(np.int64)


def _decide(
    undecided: list[_Undecided],
    counts: list[IntArray],
    positives: Sequence[IntArray],
    queries: Tensor,
    gallery: Tensor,
    query_norms: Tensor,
    gallery_norms: Tensor,
    similarity: Similarity,
    ties: Ties,
) -> None:
    """Score every open positive and the negatives near it exactly, and add those that stand above it."""
    query_rows = np.concatenate([np.full(len(u.which) + len(u.near), u.query) for u in undecided])
    gallery_rows = np.concatenate([np.concatenate([positives[u.query][u.which], u.near]) for u in undecided])
    scores = np.empty(len(query_rows))
    step = max(1, (1 << 22) // gallery.shape[1])
    for start in range(0, len(query_rows), step):
        q = torch.from_numpy(query_rows[start : start + step]).to(queries.device)
        g = torch.from_numpy(gallery_rows[start : start + step]).to(queries.device)
        part = exact_similarity(queries[q], gallery[g], query_norms[q], gallery_norms[g], similarity)
        scores[start : start + step] = part.cpu().numpy()
    at = 0
    for u in undecided:
        of_positive = scores[at : at + len(u.which)]
        of_near = scores[at + len(u.which) : at + len(u.which) + len(u.near)]
        at += len(u.which) + len(u.near)
        for place, value, begin, end in zip(u.which, of_positive, u.begin, u.end, strict=True):
            near = of_near[begin:end]
            above = near >= value if ties == "pessimistic" else near > value
            counts[u.query][place] += int(above.sum())
