"""A block of queries against a tile of the gallery: where the counting is done."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics._engine.bfloat16_pass import BFloat16Tile
from clipreid_kit.metrics._engine.candidate_pairs import (
    INFINITY,
    columns_of,
    find_candidates,
    pack,
    query_of,
)
from clipreid_kit.metrics._engine.exact_similarity import (
    Distance,
    all_products,
    similarity,
    split_rows,
)
from clipreid_kit.metrics._engine.float32_pass import Float32Tile
from clipreid_kit.metrics._engine.match_counts import Matches
from clipreid_kit.metrics._engine.rescore import ExactScorer, PreciseScorer, Scorer, SingleScorer

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_SLICE = 1 << 20  # similarities that are looked through at once
_WAITING = 1 << 16  # open pairs that are collected before they are scored again
_EXACT_TILE = 1 << 11  # gallery rows of a tile of exact similarities
_DENSE = (
    8  # a query with more than 1/8 of the tile undecided is passed on to the next pass as a whole
)


class Tile:
    """A tile of the gallery: rows as they are, their norms, and the rows prepared for the fast passes.

    Args:
        rows: Rows of the tile, N >= 1.
        norms: Their norms, float64.
        distance: ``"cosine"`` or ``"euclidean"``.
        reach: The largest norm of a query.
        low: Whether to try bfloat16 first.
    """

    def __init__(
        self, rows: Tensor, norms: Tensor, distance: Distance, reach: float, low: bool
    ) -> None:
        self.rows, self.norms, self.distance = rows, norms, distance
        self.fast = Float32Tile(rows, norms, distance, reach)
        extreme = ((norms < 1e-15) & (norms > 0)).any() | (norms > 1e15).any()
        low = low and distance == "cosine" and rows.dtype == torch.float32 and not bool(extreme)
        self.low = BFloat16Tile(rows, norms) if low else None


class _Ours(NamedTuple):
    """The matches of the block: numbers among all, scores and how far these may be from the exact ones."""

    match: IntArray
    scores: FloatArray
    errors: FloatArray


class _Open(NamedTuple):
    """What a pass leaves open: wrong items, and pairs of a match and one of the items, perhaps equally near."""

    query: IntArray
    rows: IntArray
    match: IntArray
    item: IntArray


@dataclass(slots=True)
class Block:
    """A block of queries against a tile of the gallery.

    Attributes:
        tile: The tile.
        queries: Rows of the queries.
        norms: Their norms.
        numbers: Their numbers among all queries.
        same: Query and gallery row, both within the block, of all pairs of one identity, ascending by query.
        skip: Gallery rows of the tile that are ignored.
        matches: Matches of all queries.
    """

    tile: Tile
    queries: Tensor
    norms: Tensor
    numbers: IntArray
    same: tuple[IntArray, IntArray]
    skip: IntArray
    matches: Matches

    def count(self, buffer: Tensor, low: bool) -> None:
        """Count the wrong items that stand above each match, and those beside it.

        Args:
            buffer: Room for the fast similarities, one-dimensional, float32.
            low: Whether to multiply in bfloat16 first, if the tile is prepared for it.
        """
        tile, shape = self.tile, (len(self.norms), len(self.tile.norms))
        low = low and tile.low is not None
        room = buffer.numel() * (2 if low else 1) // shape[1]
        if shape[0] > room:
            for start in range(0, shape[0], room):
                self._part(np.arange(start, min(start + room, shape[0]))).count(buffer, low)
            return
        query, match = self._matches()
        if len(match) == 0:
            return
        precise = PreciseScorer(self.queries, self.norms, tile.rows, tile.norms, tile.distance)
        tiers: list[Scorer] = [precise, ExactScorer(self.queries, tile.rows, tile.distance)]
        if self.matches.known:
            scores, errors = self.matches.scores[match], np.zeros(len(match))
        else:
            scores, errors = precise(query, self.matches.rows[match])
        if low and tile.low is not None:
            out = buffer.view(torch.bfloat16)[: shape[0] * shape[1]].view(shape)
            tile.low.block(self.queries, self.norms, out)
            tiers.insert(0, SingleScorer(self.queries, self.norms, tile.rows, tile.norms))
            windows = tile.low.windows(scores, query)
        else:
            out = buffer[: shape[0] * shape[1]].view(shape)
            tile.fast.block(self.queries, self.norms, out)
            windows = tile.fast.windows(tile.fast.of_exact(scores, self.norms.cpu().numpy()[query]))
        _mask(out, *self.same, self.skip)
        dense = self._look_through(out, query, _Ours(match, scores, errors), windows, tiers)
        if len(dense) and low:
            if 4 * len(dense) > shape[0]:  # bfloat16 does not pay with such data
                tile.low = None
            self._part(dense).count(buffer, low=False)
        elif len(dense):
            self._part(dense).count_exactly()

    def _look_through(
        self,
        out: Tensor,
        query: IntArray,
        ours: _Ours,
        windows: tuple[Float32Array, Float32Array],
        tiers: list[Scorer],
    ) -> IntArray:
        """Count what is certain, some queries at a time, and have most of the rest scored again.

        Returns:
            Queries of which too much is open; nothing of theirs is counted.
        """
        size, width = out.shape
        step = max(1, _SLICE // width)
        begin = query.searchsorted(np.arange(0, size + step, step).clip(max=size))
        left = [np.empty(0, dtype=np.int64)]
        waiting: list[_Open] = []
        for first, start, stop in zip(
            range(0, size, step), begin[:-1].tolist(), begin[1:].tolist(), strict=True
        ):
            count = min(step, size - first)
            local, edges = query[start:stop] - first, [edge[start:stop] for edge in windows]
            lowest = np.full(count, INFINITY)
            np.minimum.at(lowest, local, edges[0])
            packed, ends = find_candidates(out[first : first + count], lowest)
            near_from, near_to = (packed.searchsorted(pack(local, edge, 0)) for edge in edges)
            opened = np.bincount(near_from, minlength=len(packed) + 1) - np.bincount(
                near_to, minlength=len(packed) + 1
            )
            inside = np.flatnonzero(np.cumsum(opened)[:-1])
            of_item, near = query_of(packed[inside]), near_to - near_from
            dense = np.bincount(of_item, minlength=count) > max(64, width // _DENSE)
            dense |= np.bincount(local, near, minlength=count) > 4 * width
            kept = ~dense[local]
            self.matches.above[ours.match[start:stop]] += np.where(kept, ends[local] - near_to, 0)
            left.append(first + np.flatnonzero(dense))
            near[~kept] = 0
            pair = np.repeat(np.arange(len(near)), near)
            place = np.arange(len(pair)) + (near_from - (np.cumsum(near) - near))[pair]
            waiting.append(
                _Open(
                    first + of_item,
                    columns_of(packed[inside]),
                    start + pair,
                    inside.searchsorted(place),
                )
            )
            if sum(len(part.match) for part in waiting) > _WAITING or first + step >= size:
                self._decide(waiting, ours, tiers)
                waiting = []
        return np.concatenate(left)

    def _decide(self, waiting: list[_Open], ours: _Ours, tiers: list[Scorer]) -> None:
        """Decide what is open by better scores, until nothing is left."""
        matches = self.matches
        ahead = np.cumsum([0, *(len(part.rows) for part in waiting)])
        query, rows, match = (np.concatenate(x) for x in list(zip(*waiting, strict=True))[:3])
        item = np.concatenate(
            [part.item + shift for part, shift in zip(waiting, ahead.tolist(), strict=False)]
        )
        for score in tiers:
            needed = np.flatnonzero(np.bincount(item, minlength=len(rows)))
            query, rows, item = query[needed], rows[needed], needed.searchsorted(item)
            if len(item) == 0:
                return
            values, errors = score(query, rows)
            scores, own_errors = ours.scores[match], ours.errors[match]
            exact = not errors.any()
            if exact and not matches.known:
                opened = np.flatnonzero(
                    np.diff(match, prepend=-1)
                )  # pairs of one match stand together
                of_match = np.repeat(np.arange(len(opened)), np.diff(opened, append=len(match)))
                scores, own_errors = score(
                    query[item[opened]], matches.rows[ours.match[match[opened]]]
                )
                scores, own_errors = scores[of_match], own_errors[of_match]
            difference, tolerance = values[item] - scores, errors[item] + own_errors
            np.add.at(matches.above, ours.match[match[difference > tolerance]], 1)
            if exact:
                np.add.at(matches.tied, ours.match[match[difference == 0]], 1)
                return
            pairs = np.flatnonzero(np.abs(difference) <= tolerance)
            match, item = match[pairs], item[pairs]

    def count_exactly(self) -> None:
        """The same, where similarities are too near to each other: score the whole tile exactly."""
        tile, matches = self.tile, self.matches
        query, match = self._matches()
        if matches.known:
            scores = matches.scores[match]
        else:
            scores, _ = ExactScorer(self.queries, tile.rows, tile.distance)(
                query, matches.rows[match]
            )
        parts = np.flatnonzero(np.diff(query, prepend=-1, append=len(self.norms))).tolist()
        of_queries = split_rows(self.queries, tile.distance)
        for left in range(0, len(tile.norms), _EXACT_TILE):
            of_gallery = split_rows(tile.rows[left : left + _EXACT_TILE], tile.distance)
            out = similarity(
                all_products(of_queries, of_gallery), of_queries, of_gallery, tile.distance
            )
            inside = (self.same[1] >= left) & (self.same[1] < left + out.shape[1])
            skip = self.skip[(self.skip >= left) & (self.skip < left + out.shape[1])] - left
            _mask(out, self.same[0][inside], self.same[1][inside] - left, skip)
            values = out.cpu().numpy()
            for start, stop in itertools.pairwise(parts):
                matches.add(match[start:stop], scores[start:stop], values[query[start]])

    def _part(self, chosen: IntArray) -> "Block":
        """Some of the queries."""
        place = np.full(len(self.norms), -1)
        place[chosen] = np.arange(len(chosen))
        query = place[self.same[0]]
        same = query[query >= 0], self.same[1][query >= 0]
        rows = torch.from_numpy(chosen).to(self.queries.device)
        return Block(
            self.tile,
            self.queries[rows],
            self.norms[rows],
            self.numbers[chosen],
            same,
            self.skip,
            self.matches,
        )

    def _matches(self) -> tuple[IntArray, IntArray]:
        """The query, within the block, and the number of every match."""
        first, last = self.matches.begin[self.numbers], self.matches.begin[self.numbers + 1]
        query = np.repeat(np.arange(len(first)), last - first)
        return query, np.arange(len(query)) + (first - (np.cumsum(last - first) - (last - first)))[
            query
        ]


def _mask(out: Tensor, query: IntArray, rows: IntArray, skip: IntArray) -> None:
    """Take the query's own identity, and what is ignored, out of the running."""
    out.view(-1)[torch.from_numpy(query * out.shape[1] + rows).to(out.device)] = -torch.inf
    if len(skip):
        out[:, torch.from_numpy(skip).to(out.device)] = -torch.inf
