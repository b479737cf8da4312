"""Count the non-matches above each match of queries with very many matches: sort whole rows.

Negative cosines in float64 are written as whole numbers, steps of 2^-30, and the lowest bit marks a
match. So one sort of a query's numbers, its keys, ranks all its matches at once. The few pairs that
are too near to each other for keys to tell are compared by their exact cosines.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.exact_similarity import float64_chunks
from clipreid_kit._similarity.float32_pass import inverse_norms
from clipreid_kit._similarity.rescore import float64_error_bound

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Keys = npt.NDArray[np.int32]

_STEPS = 2.0**30  # of a similarity of 1: twice as many do not fit into 32 bits
_MATCH = 1  # the bit of a match
_EXCLUDED = np.iinfo(np.int32).max - 1  # even, and behind all others
_COLUMN_BITS = 32
# gallery rows of a product, and their numbers: more rows make a faster one while they fit the cache
_PANEL, _PANEL_NUMBERS = 1 << 10, 1 << 19


class Run(NamedTuple):
    """Neighbours in a sorted row, among them pairs that the keys do not tell apart.

    Attributes:
        columns: Columns of all of them.
        is_match: Whether each is a match.
        matches: Which of the query's matches they are, from 0, the nearest.
        above: Non-matches above the whole run.
    """

    columns: IntArray
    is_match: npt.NDArray[np.bool_]
    matches: slice
    above: int


class RankedRow(NamedTuple):
    """The matches of one query, the nearest first.

    Attributes:
        above: Non-matches above each match; right for all that are in no run.
        runs: Runs of neighbours that exact similarities have to decide.
    """

    above: IntArray
    runs: list[Run]

    @property
    def num_open(self) -> int:
        """Number of neighbours in all runs."""
        return sum(len(run.columns) for run in self.runs)


def write_keys(
    queries: Tensor, query_norms: Tensor, gallery: Tensor, gallery_norms: Tensor, out: Tensor
) -> None:
    """Write the keys of all pairs into ``out`` (Q, G), int32: even, and the lowest is nearest."""
    factors = inverse_norms(query_norms) * -_STEPS
    scaled = queries.double() * factors[:, None]
    gallery_factors = inverse_norms(gallery_norms)
    panel = max(1, min(_PANEL, _PANEL_NUMBERS // gallery.shape[1], len(gallery)))
    buffer = torch.empty(len(queries) * panel, dtype=torch.float64, device=out.device)

    with torch.autocast(queries.device.type, enabled=False):
        for rows, values in float64_chunks(gallery, panel):
            values.mul_(gallery_factors[rows, None])
            products = buffer[: len(queries) * len(values)].view(len(queries), -1)
            out[:, rows] = torch.mm(scaled, values.T, out=products)
    out.bitwise_and_(~_MATCH)


def mark_identity(columns: IntArray, width: int) -> Keys:
    """Return (G,) zeros with the bit of a match at these columns."""
    marks = np.zeros(width, dtype=np.int32)
    marks[columns] = _MATCH
    return marks


def nearness(dim: int) -> int:
    """Return the largest difference of two keys, one of a match, that decides nothing.

    Rounding towards zero, and then to an even number, moves a cosine by less than 2 steps; so does
    the bit of a match by 1, and float64 by its own bound.
    """
    return 5 + math.ceil(2 * float64_error_bound(dim) * _STEPS)


def rank_row(keys: Keys, marks: Keys, excluded: IntArray, near: int) -> RankedRow:
    """Rank the matches of one query.

    Args:
        keys: (G,), from :func:`write_keys`; matches are marked, and other rows of the identity
            excluded.
        marks: (G,), from :func:`mark_identity`.
        excluded: Columns of its identity that are no matches.
        near: From :func:`nearness`.
    """
    keys |= marks
    keys[excluded] = _EXCLUDED

    ascending = np.sort(keys)
    (places,) = (ascending & _MATCH).astype(bool).nonzero()
    above = places - np.arange(len(places))

    # where two kinds are neighbours, which is where keys differ by an odd number, those around them
    # may be in another order than it seems; a difference beyond 31 bits is one of 32 bits unsigned
    steps = np.subtract(ascending[1:], ascending[:-1]).view(np.uint32)
    (close,) = (steps <= near).nonzero()
    open_places = close[steps[close] % 2 == 1]
    if len(open_places) == 0:
        return RankedRow(above, [])

    return RankedRow(above, _find_runs(keys, ascending, places, open_places, near))


def _find_runs(
    keys: Keys, ascending: Keys, places: IntArray, open_places: IntArray, near: int
) -> list[Run]:
    """Return disjoint runs that hold all pairs of a match and a non-match that are near.

    Such a pair has two neighbours of both kinds between its members, each at most as far apart as
    the pair is. So the pair lies within reach of these neighbours.

    Args:
        keys: Keys of the row.
        ascending: The same, sorted.
        places: Where the matches are in the sorted row.
        open_places: Where a match and a non-match are neighbours, and near.
        near: From :func:`nearness`.
    """
    first = ascending.searchsorted(ascending[open_places + 1] - near, side="left")
    last = ascending.searchsorted(ascending[open_places] + near, side="right")
    is_new = np.append(True, first[1:] >= last[:-1])
    first, last = first[is_new], last[np.append(is_new[1:], True)]
    first_match, last_match = places.searchsorted([first, last])

    packed = (keys.astype(np.int64) << _COLUMN_BITS) | np.arange(len(keys))
    packed.sort()
    runs = []
    for i in range(len(first)):
        items = packed[first[i] : last[i]]
        columns = items & ((1 << _COLUMN_BITS) - 1)
        matches = slice(int(first_match[i]), int(last_match[i]))
        is_match = keys[columns] & _MATCH > 0
        runs.append(Run(columns, is_match, matches, int(first[i] - first_match[i])))
    return runs


def count_run(run: Run, similarities: FloatArray) -> tuple[IntArray, IntArray]:
    """Count the non-matches above, and tied with, the matches of a run.

    Args:
        run: The run.
        similarities: Exact similarities of its columns.

    Returns:
        Both counts of each match, the nearest first.
    """
    own = np.sort(similarities[run.is_match])[::-1]
    others = np.sort(similarities[~run.is_match])
    right = others.searchsorted(own, side="right")
    return run.above + len(others) - right, right - others.searchsorted(own, side="left")
