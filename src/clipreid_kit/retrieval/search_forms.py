"""Forms of a search: each query alone, several images of one query, and hits by identity."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import inverse_norms

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Found(NamedTuple):
    """The nearest rows of each query; where there are fewer, row -1 and similarity NaN.

    Attributes:
        rows: (Q, K).
        similarities: (Q, K).
    """

    rows: IntArray
    similarities: FloatArray


Searcher = Callable[[Tensor, int], Found]
"""Finds the nearest rows of queries (Q, D): a number of rows for each, or all where fewer are."""


class QueryGroup(NamedTuple):
    """Queries that may find the same rows.

    Attributes:
        numbers: Positions of the queries.
        search: Finds the nearest of these rows.
    """

    numbers: IntArray
    search: Searcher


Finder = Callable[[int], Found]


def find_each(queries: Tensor, groups: Sequence[QueryGroup], count: int) -> Found:
    """Find the nearest rows of each query.

    Args:
        queries: (Q, D).
        groups: All queries, by the rows that they may find.
        count: How many rows to find.
    """
    found = _nothing(len(queries), count)
    longest = 0
    for group in groups:
        chosen = queries.index_select(0, torch.from_numpy(group.numbers))
        rows, similarities = group.search(chosen, count)
        length = rows.shape[1]
        longest = max(longest, length)
        found.rows[group.numbers, :length] = rows
        found.similarities[group.numbers, :length] = similarities
    return Found(found.rows[:, :longest], found.similarities[:, :longest])


def find_nearest_to_any(queries: Tensor, search: Searcher, count: int) -> Found:
    """Find the rows with the largest similarity to any of the queries.

    A row that is among them is among the nearest of the query that it is most similar to.
    """
    found = search(queries, count)
    is_found = found.rows >= 0
    rows = found.rows[is_found]
    similarities = found.similarities[is_found]

    order = np.lexsort((rows, -similarities))
    rows = rows[order]
    similarities = similarities[order]

    # A row that several queries found counts once, where it is most similar.
    _, first_place = np.unique(rows, return_index=True)
    nearest = np.sort(first_place)[:count]
    return Found(rows[None, nearest], similarities[None, nearest])


def group_by_identity(
    find: Finder, count: int, num_rows: int, identities: Callable[[IntArray], Sequence[object]]
) -> Found:
    """Find the nearest row of each of the nearest identities.

    Args:
        find: Finds a number of rows.
        count: How many identities to find.
        num_rows: How many rows there are.
        identities: Returns the identities of rows.
    """
    depth = min(2 * count, num_rows)
    while True:
        found = find(depth)
        grouped = [
            _first_of_each(rows, similarities, count, identities)
            for rows, similarities in zip(found.rows, found.similarities, strict=True)
        ]
        shortest = min((len(rows) for rows, _ in grouped), default=count)
        if shortest == count or depth == num_rows:
            break
        depth = min(4 * depth, num_rows)

    out = _nothing(len(grouped), max((len(rows) for rows, _ in grouped), default=0))
    for number, (rows, similarities) in enumerate(grouped):
        out.rows[number, : len(rows)] = rows
        out.similarities[number, : len(rows)] = similarities
    return out


def mean_of_unit_rows(rows: Tensor) -> Tensor:
    """Return the mean of the rows scaled to norm 1, (1, D), float64."""
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    unit = rows.double() * inverse_norms(norms)[:, None]
    return unit.mean(dim=0, keepdim=True)


def _first_of_each(
    rows: IntArray,
    similarities: FloatArray,
    count: int,
    identities: Callable[[IntArray], Sequence[object]],
) -> tuple[IntArray, FloatArray]:
    """Return the first row of each identity, for the first identities."""
    present = rows[rows >= 0]
    first: dict[object, int] = {}
    for position, identity in enumerate(identities(present)):
        first.setdefault(identity, position)

    positions = np.array(list(first.values())[:count], dtype=np.int64)
    return present[positions], similarities[positions]


def _nothing(num_queries: int, count: int) -> Found:
    rows = np.full((num_queries, count), -1, dtype=np.int64)
    return Found(rows, np.full((num_queries, count), np.nan))
