"""Ranks of the relevant candidates of every query, without sorting or holding all similarities."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics.relevance import Relevance
from clipreid_kit.metrics.space import Space

Ties = Literal["pessimistic", "optimistic"]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_BLOCK = 1 << 22  # similarities that are looked at together: 16 MB
_MANY = 1 << 16  # of so many open candidates in a block, equal ones are scored once


@dataclass(slots=True)
class _Open:
    """Relevant candidates of one query whose place the error bound leaves open, and the rivals too near to them."""

    query: int
    which: IntArray  # places in the query's list
    begin: IntArray  # the rivals of each are near[begin:end]
    end: IntArray
    near: IntArray  # candidates


def ranks_in_space(space: Space, shape: tuple[int, int], relevance: Relevance, ties: Ties, *, alone: bool) -> IntArray:
    """Rank every relevant candidate by exact similarity; ascending for each query, from 1.

    Args:
        space: The queries and below them the candidates; or, if ``alone``, the queries, which are the candidates, too.
        shape: Number of queries and of candidates.
        relevance: Which are right.
        ties: Whether a wrong candidate exactly as near stands above or below.
        alone: Leave-one-out: a query stands in no ranking of its own.
    """
    columns = slice(len(space) - shape[1], len(space))
    step = max(1, _BLOCK // shape[1])
    counts = np.zeros(len(relevance.rows), dtype=np.int64)
    groups: IntArray | None = None
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        block = space.nearness(slice(start, stop), columns).cpu().numpy()
        windows = 2 * space.error[start:stop].cpu().numpy()
        undecided: list[_Open] = []
        for i in range(start, stop):
            if alone:
                block[i - start, i] = -np.inf
            part = slice(relevance.begin[i], relevance.begin[i + 1])
            counts[part] = _certain(i, block[i - start], relevance.of(i), float(windows[i - start]), undecided)
        if sum(len(case.near) for case in undecided) > _MANY and groups is None:
            groups = space.groups(columns)
        if undecided:
            _decide(undecided, counts, relevance, space, columns.start, groups, ties)
    return _to_ranks(counts, relevance)


def ranks_of_matrix(similarity: Tensor, relevance: Relevance, ties: Ties) -> IntArray:
    """The same for given similarities (Q, C), as they are."""
    counts = np.zeros(len(relevance.rows), dtype=np.int64)
    for i in range(similarity.shape[0]):
        own_rows = relevance.of(i)
        if len(own_rows):
            row = similarity[i].cpu().numpy()
            wrong = np.sort(np.delete(row, own_rows))
            side: Literal["left", "right"] = "left" if ties == "pessimistic" else "right"
            counts[relevance.begin[i] : relevance.begin[i + 1]] = len(wrong) - np.searchsorted(
                wrong, row[own_rows], side=side
            )
    return _to_ranks(counts, relevance)


def _to_ranks(counts: IntArray, relevance: Relevance) -> IntArray:
    """From wrong candidates above each relevant one to ranks: the k-th relevant one stands k - 1 places lower still."""
    sizes = np.diff(relevance.begin)
    query = np.repeat(np.arange(len(sizes)), sizes)
    counts = counts[np.lexsort((counts, query))]
    ranks: IntArray = counts + 1 + np.arange(len(counts)) - relevance.begin[query]
    return ranks


def _certain(
    query: int, row: npt.NDArray[np.float32], relevant: IntArray, window: float, undecided: list[_Open]
) -> IntArray:
    """Count wrong candidates that are certainly above each relevant one, and note those too near to tell."""
    if len(relevant) == 0:
        return np.empty(0, dtype=np.int64)
    own = row[relevant].astype(np.float64)
    row[relevant] = -np.inf
    lowest = np.nextafter(np.float32(own.min() - window), np.float32(-np.inf))
    rivals = np.flatnonzero(row >= lowest)
    order = np.argsort(row[rivals], kind="stable")
    ascending = row[rivals][order].astype(np.float64)
    begin = np.searchsorted(ascending, own - window, side="left")
    end = np.searchsorted(ascending, own + window, side="right")
    which = np.flatnonzero(end > begin)
    if len(which):  # rivals inside any window, and where each window lies among them
        edges = np.zeros(len(ascending) + 1, dtype=np.int64)
        np.add.at(edges, begin[which], 1)
        np.add.at(edges, end[which], -1)
        inside = np.cumsum(edges[:-1]) > 0
        place = np.concatenate([[0], np.cumsum(inside)])
        undecided.append(_Open(query, which, place[begin[which]], place[end[which]], rivals[order[inside]]))
    return (len(ascending) - end).astype(np.int64)


def _decide(
    undecided: list[_Open],
    counts: IntArray,
    relevance: Relevance,
    space: Space,
    first: int,
    groups: IntArray | None,
    ties: Ties,
) -> None:
    """Score every open candidate and the rivals near it exactly, and add those that stand above it."""
    query = np.concatenate([np.full(len(case.which) + len(case.near), case.query) for case in undecided])
    candidate = np.concatenate([np.concatenate([relevance.of(c.query)[c.which], c.near]) for c in undecided])
    scores = _scores(space, query, candidate, first, groups)
    at = 0
    for case in undecided:
        own = scores[at : at + len(case.which)]
        near = scores[at + len(case.which) : at + len(case.which) + len(case.near)]
        at += len(case.which) + len(case.near)
        places = relevance.begin[case.query] + case.which
        for place, value, begin, end in zip(places, own, case.begin, case.end, strict=True):
            rivals = near[begin:end]
            counts[place] += int((rivals >= value if ties == "pessimistic" else rivals > value).sum())


def _scores(space: Space, query: IntArray, candidate: IntArray, first: int, groups: IntArray | None) -> FloatArray:
    if groups is None:
        return space.exact(query, candidate + first)
    keys = torch.from_numpy(query * (int(groups.max()) + 1) + groups[candidate])
    _, inverse = torch.unique(keys, return_inverse=True)
    where = np.empty(int(inverse.max()) + 1, dtype=np.int64)
    where[inverse.numpy()] = np.arange(len(query))  # any one of equal pairs
    scores: FloatArray = space.exact(query[where], candidate[where] + first)[inverse.numpy()]
    return scores
