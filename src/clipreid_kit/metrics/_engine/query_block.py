"""Count the non-matches above each match, for a block of queries and a tile of the gallery."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.centred_pass import CentredTile, may_be_centred
from clipreid_kit._similarity.exact_similarity import (
    Distance,
    all_products,
    combine_products,
    split_rows,
)
from clipreid_kit._similarity.float32_pass import (
    INFINITY,
    Float32Tile,
    has_extreme_norms,
)
from clipreid_kit._similarity.rescore import (
    ExactScorer,
    Float32Scorer,
    Float64Scorer,
    Scorer,
)
from clipreid_kit.metrics._engine.bfloat16_pass import BFloat16Tile
from clipreid_kit.metrics._engine.contending_items import find_contending_items
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.match_pairs import MatchPairs
from clipreid_kit.metrics._engine.sorted_rows import (
    RankedRow,
    Run,
    count_run,
    mark_identity,
    nearness,
    rank_row,
    write_keys,
)

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Windows = tuple[Float32Array, Float32Array]

_SLICE = 1 << 20  # similarities that are searched at once
_MAX_WAITING = 1 << 16  # open pairs that are collected before they are scored again
_ALIGNMENT = 16  # similarities of a row of a block are a multiple of this
_EXACT_TILE = 1 << 11  # gallery rows of a tile of exact similarities
# a query with more than 1/8 of the tile undecided goes to the next pass as a whole
_DENSE_DIVISOR = 8
_FEW_OPEN = 64  # so many open items are never too many
# a query with this many matches, and more than 1/16 of the tile, has its whole row sorted
_FEW_MATCHES, _MANY_DIVISOR = 256, 16


def padded(width: int) -> int:
    """Return the width of a block for a tile of this width.

    BLAS writes rows that begin at multiples of 64 bytes up to 1.6 times as fast.
    """
    return -(-width // _ALIGNMENT) * _ALIGNMENT


class GalleryTile:
    """A tile of the gallery: its rows, their norms, and the rows prepared for the fast passes.

    Args:
        rows: Rows of the tile, N >= 1.
        norms: Their norms, float64.
        distance: ``"cosine"`` or ``"euclidean"``.
        largest_query_norm: The largest norm of a query.
        position: For each row of the gallery that the tile covers, its place among ``rows``, which
            lack junk.
        try_bfloat16: Whether to prepare the tile for bfloat16, too, if its rows allow it.

    Attributes:
        float32: The rows prepared for float32.
        bfloat16: The rows prepared for bfloat16, or ``None``.
    """

    def __init__(
        self,
        rows: Tensor,
        norms: Tensor,
        distance: Distance,
        largest_query_norm: float,
        position: IntArray,
        *,
        try_bfloat16: bool,
    ) -> None:
        self.rows = rows
        self.norms = norms
        self.distance = distance
        self.position = position
        self.float32: Float32Tile | CentredTile
        if distance == "cosine" and may_be_centred(rows):
            self.float32 = CentredTile(rows, norms)
        else:
            self.float32 = Float32Tile(rows, norms, distance, largest_query_norm)

        self.bfloat16: BFloat16Tile | None = None
        is_float32_cosine = distance == "cosine" and rows.dtype == torch.float32
        if try_bfloat16 and is_float32_cosine and not has_extreme_norms(norms):
            self.bfloat16 = BFloat16Tile(rows, norms)


class _BlockMatches(NamedTuple):
    """The matches of the queries of a block, ascending by query.

    Attributes:
        query: Query, within the block.
        match: Number among all matches.
        similarities: Similarities in float64.
        errors: How far these may be from the exact ones.
    """

    query: IntArray
    match: IntArray
    similarities: FloatArray
    errors: FloatArray


class _OpenPairs(NamedTuple):
    """Pairs of a match and a non-match that may be equally near; a pass left them undecided.

    Attributes:
        query: Query of every open item.
        rows: Gallery row of every open item.
        match: Match of every pair, as a position in :class:`_BlockMatches`.
        item: Item of every pair, as a position in ``query`` and ``rows``.
    """

    query: IntArray
    rows: IntArray
    match: IntArray
    item: IntArray


@dataclass(slots=True)
class QueryBlock:
    """A block of queries against a tile of the gallery.

    Attributes:
        tile: The tile.
        queries: Rows of the queries.
        norms: Their norms.
        numbers: Their numbers among all queries.
        same_identity: For each query the rows of the tile that are of its identity.
        matches: Matches of all queries.
    """

    tile: GalleryTile
    queries: Tensor
    norms: Tensor
    numbers: IntArray
    same_identity: MatchPairs
    matches: MatchCounts

    def count(self, buffer: Tensor, *, try_bfloat16: bool) -> None:
        """Count the non-matches ranked above each match, and those tied with it.

        Args:
            buffer: Space for the fast similarities, one-dimensional, float32.
            try_bfloat16: Whether to multiply in bfloat16 first, if the tile is prepared for it.
        """
        tile = self.tile
        num_queries = len(self.norms)
        bfloat16 = tile.bfloat16 if try_bfloat16 else None  # another block may drop the tile's

        # a buffer of float32 numbers holds twice as many in bfloat16
        capacity = buffer.numel() * (1 if bfloat16 is None else 2) // padded(len(tile.norms))
        if num_queries > capacity:
            for start in range(0, num_queries, capacity):
                part = self._select(np.arange(start, min(start + capacity, num_queries)))
                part.count(buffer, try_bfloat16=bfloat16 is not None)
            return

        has_many = self._have_many_matches()
        if has_many.any():
            self.count_by_sorting(np.flatnonzero(has_many), buffer)
            self._select(np.flatnonzero(~has_many)).count(buffer, try_bfloat16=try_bfloat16)
            return

        query, match = self._locate_matches()
        if len(match) == 0:
            return

        float64 = Float64Scorer(self.queries, self.norms, tile.rows, tile.norms, tile.distance)
        scorers: list[Scorer] = [float64, ExactScorer(self.queries, tile.rows, tile.distance)]
        block_matches = self._score_matches(query, match, float64)

        if bfloat16 is not None:
            block, windows = self._multiply_bfloat16(buffer, bfloat16, block_matches)
            scorers.insert(0, Float32Scorer(self.queries, self.norms, tile.rows, tile.norms))
        else:
            block, windows = self._multiply_float32(buffer, block_matches)

        _mask(block, self.same_identity.query, self.same_identity.rows)
        dense = self._count_block(block, block_matches, windows, scorers)
        if len(dense) == 0:
            return

        if bfloat16 is not None:
            if 4 * len(dense) > num_queries:  # bfloat16 does not pay with such data
                tile.bfloat16 = None
            self._select(dense).count(buffer, try_bfloat16=False)
        else:
            self._select(dense).count_exactly()

    def _have_many_matches(self) -> BoolArray:
        """Whether each query has so many matches that to sort its row pays."""
        begin = self.matches.begin
        num_matches = begin[self.numbers + 1] - begin[self.numbers]
        if self.tile.distance != "cosine" or self.matches.has_similarities:
            return np.zeros(len(num_matches), dtype=bool)

        return num_matches > max(_FEW_MATCHES, len(self.tile.norms) // _MANY_DIVISOR)

    def _score_matches(
        self, query: IntArray, match: IntArray, float64: Float64Scorer
    ) -> _BlockMatches:
        """Return the matches with their similarities: those given, or computed in float64."""
        counts = self.matches
        if counts.has_similarities:
            return _BlockMatches(query, match, counts.similarities[match], np.zeros(len(match)))

        similarities, errors = float64(query, self.tile.position[counts.rows[match]])
        return _BlockMatches(query, match, similarities, errors)

    def _multiply_bfloat16(
        self, buffer: Tensor, tile: BFloat16Tile, matches: _BlockMatches
    ) -> tuple[Tensor, Windows]:
        """Return the fast values in bfloat16, and the windows of the matches in them."""
        block, products = self._space(buffer.view(torch.bfloat16))
        values = tile.multiply(self.queries, self.norms, products)
        return block, values.windows(matches.similarities, matches.query)

    def _multiply_float32(self, buffer: Tensor, matches: _BlockMatches) -> tuple[Tensor, Windows]:
        """Return the fast values in float32, and the windows of the matches in them."""
        block, products = self._space(buffer)
        tile = self.tile.float32
        if isinstance(tile, CentredTile):
            values = tile.multiply(self.queries, self.norms, products)
            return block, values.windows(matches.similarities, matches.query)

        tile.multiply(self.queries, self.norms, products)
        query_norms = self.norms.cpu().numpy()[matches.query]
        return block, tile.windows(tile.unrounded_values(matches.similarities, query_norms))

    def _space(self, buffer: Tensor) -> tuple[Tensor, Tensor]:
        """Return a block in a buffer, and the part of it that holds products; the rest is -inf."""
        num_queries, num_rows = len(self.norms), len(self.tile.norms)
        width = padded(num_rows)
        block = buffer[: num_queries * width].view(num_queries, width)
        block[:, num_rows:] = -torch.inf
        return block, block[:, :num_rows]

    def _count_block(
        self, block: Tensor, matches: _BlockMatches, windows: Windows, scorers: list[Scorer]
    ) -> IntArray:
        """Count what the fast values decide, and decide the rest by better and better scores.

        Returns:
            Queries of which too many pairs are open; none of their pairs is counted.
        """
        num_queries, width = block.shape
        step = max(1, _SLICE // width)
        dense = [np.empty(0, dtype=np.int64)]
        waiting: list[_OpenPairs] = []
        num_waiting = 0

        for first in range(0, num_queries, step):
            last = min(first + step, num_queries)
            part = slice(*matches.query.searchsorted([first, last]).tolist())
            dense_here, opened = self._count_slice(block[first:last], first, matches, windows, part)
            dense.append(dense_here)
            waiting.append(opened)
            num_waiting += len(opened.match)
            if num_waiting > _MAX_WAITING or last == num_queries:
                self._decide(_join(waiting), matches, scorers)
                waiting = []
                num_waiting = 0

        return np.concatenate(dense)

    def _count_slice(
        self, block: Tensor, first: int, matches: _BlockMatches, windows: Windows, part: slice
    ) -> tuple[IntArray, _OpenPairs]:
        """Count what the fast values of some queries decide.

        Args:
            block: Fast values of these queries.
            first: The first of them.
            matches: Matches of the whole block.
            windows: Fast values that an item as near as each match may have: from, and below.
            part: The matches of these queries.

        Returns:
            The dense queries among them, and the open pairs of the others.
        """
        num_queries, width = block.shape
        query = matches.query[part] - first
        window_low, window_end = windows[0][part], windows[1][part]

        # only items that reach the window of a query's lowest match can rank above a match
        lowest = np.full(num_queries, INFINITY)
        highest = np.full(num_queries, -INFINITY)
        np.minimum.at(lowest, query, window_low)
        np.maximum.at(highest, query, window_end)
        items = find_contending_items(block, lowest, highest)

        # items from near_begin to near_end are open; those from near_end on are above the match
        near_begin, near_end = items.near(query, window_low, window_end)
        num_near = near_end - near_begin
        is_dense = np.bincount(query, num_near, minlength=num_queries) > 4 * width
        num_near[is_dense[query]] = 0

        # items inside at least one window
        pair = np.repeat(np.arange(len(num_near)), num_near)
        offset = near_begin - (np.cumsum(num_near) - num_near)
        position = np.arange(len(pair)) + offset[pair]
        inside, item = np.unique(position, return_inverse=True)
        query_of_item = items.queries(inside)

        num_open = np.bincount(query_of_item, minlength=num_queries)
        is_crowded = num_open > max(_FEW_OPEN, width // _DENSE_DIVISOR)
        if is_crowded.any():
            is_dense |= is_crowded
            is_kept = ~is_dense[query[pair]]
            pair, item = pair[is_kept], item[is_kept]

        is_counted = ~is_dense[query]
        above = np.where(is_counted, items.ends[query] - near_end, 0)
        self.matches.above[matches.match[part]] += above

        opened = _OpenPairs(first + query_of_item, items.columns(inside), part.start + pair, item)
        return first + np.flatnonzero(is_dense), opened

    def _decide(self, opened: _OpenPairs, matches: _BlockMatches, scorers: list[Scorer]) -> None:
        """Decide open pairs by more and more precise similarities, until none is left."""
        query, rows, match, item = opened
        counts = self.matches
        for scorer in scorers:
            needed = np.flatnonzero(np.bincount(item, minlength=len(rows)))
            query, rows, item = query[needed], rows[needed], needed.searchsorted(item)
            if len(item) == 0:
                return

            values, errors = scorer(query, rows)
            is_exact = not errors.any()
            if is_exact and not counts.has_similarities:
                own_rows = self.tile.position[counts.rows[matches.match[match]]]
                own_values, own_errors = _score_runs(scorer, match, query[item], own_rows)
            else:
                own_values, own_errors = matches.similarities[match], matches.errors[match]

            difference = values[item] - own_values
            tolerance = errors[item] + own_errors
            np.add.at(counts.above, matches.match[match[difference > tolerance]], 1)
            if is_exact:
                np.add.at(counts.tied, matches.match[match[difference == 0]], 1)
                return

            still_open = np.flatnonzero(np.abs(difference) <= tolerance)
            match, item = match[still_open], item[still_open]

    def count_by_sorting(self, chosen: IntArray, buffer: Tensor) -> None:
        """Count for some of the queries, each of which has many matches; cosine only.

        A window for each match would cost more than a float64 product and a sort of the whole row.
        The counts of a query's matches ascend as their similarities fall, whatever the order of
        the matches.
        """
        tile, counts = self.tile, self.matches
        width = len(tile.norms)
        near = nearness(tile.rows.shape[1])
        same = self.same_identity
        ranked: list[tuple[int, slice, RankedRow]] = []
        of_identity = same.rows[:0]  # columns that are marked
        marks = mark_identity(of_identity, width)

        step = buffer.numel() // width
        for start in range(0, len(chosen), step):
            part = slice(start, start + step)
            queries = torch.from_numpy(chosen[part]).to(tile.rows.device)
            keys = buffer.view(torch.int32)[: len(queries) * width].view(-1, width)
            write_keys(self.queries[queries], self.norms[queries], tile.rows, tile.norms, keys)

            for i, row in enumerate(keys.cpu().numpy(), start=start):
                span = slice(*same.begin[chosen[i] : chosen[i] + 2].tolist())
                if not np.array_equal(of_identity, same.rows[span]):
                    of_identity = same.rows[span]
                    marks = mark_identity(of_identity, width)

                excluded = of_identity[(~same.valid[span]).nonzero()[0]]
                found = rank_row(row, marks, excluded, near)
                number = self.numbers[chosen[i]]
                match = slice(*counts.begin[number : number + 2].tolist())
                counts.above[match] = found.above
                if found.runs:
                    ranked.append((int(chosen[i]), match, found))

        self._decide_runs(ranked)

    def _decide_runs(self, ranked: list[tuple[int, slice, RankedRow]]) -> None:
        """Count the matches in runs, given query, matches and ranked row, by exact similarities."""
        limit = max(_FEW_OPEN, len(self.tile.norms) // _DENSE_DIVISOR)
        dense = []
        runs: list[tuple[int, int, Run]] = []
        for query, match, row in ranked:
            if row.num_open > limit:
                self.matches.above[match] = 0
                dense.append(query)
            else:
                runs += [(query, match.start, run) for run in row.runs]

        if runs:
            queries = [np.full(len(run.columns), query) for query, _, run in runs]
            columns = [run.columns for _, _, run in runs]
            exact = ExactScorer(self.queries, self.tile.rows, self.tile.distance)
            similarities, _ = exact(np.concatenate(queries), np.concatenate(columns))

            stop = 0
            for _, first_match, run in runs:
                start, stop = stop, stop + len(run.columns)
                match = slice(first_match + run.matches.start, first_match + run.matches.stop)
                counts = count_run(run, similarities[start:stop])
                self.matches.above[match], self.matches.tied[match] = counts

        if dense:
            self._select(np.array(dense)).count_exactly()

    def count_exactly(self) -> None:
        """Count by exact similarities of the whole tile, where many are too close to each other."""
        tile, counts = self.tile, self.matches
        query, match = self._locate_matches()
        if counts.has_similarities:
            similarities = counts.similarities[match]
        else:
            exact = ExactScorer(self.queries, tile.rows, tile.distance)
            similarities, _ = exact(query, tile.position[counts.rows[match]])

        runs = np.flatnonzero(np.diff(query, prepend=-1, append=len(self.norms))).tolist()
        of_query, of_row = self.same_identity.query, self.same_identity.rows
        split_queries = split_rows(self.queries, tile.distance)
        for left in range(0, len(tile.norms), _EXACT_TILE):
            split_gallery = split_rows(tile.rows[left : left + _EXACT_TILE], tile.distance)
            products = all_products(split_queries, split_gallery)
            block = combine_products(products, split_queries, split_gallery, tile.distance)

            right = left + block.shape[1]
            inside = (of_row >= left) & (of_row < right)
            _mask(block, of_query[inside], of_row[inside] - left)

            values = block.cpu().numpy()
            for start, stop in itertools.pairwise(runs):
                counts.add(match[start:stop], similarities[start:stop], values[query[start]])

    def _select(self, chosen: IntArray) -> "QueryBlock":
        """Return the block of some of the queries."""
        rows = torch.from_numpy(chosen).to(self.queries.device)
        return QueryBlock(
            self.tile,
            self.queries[rows],
            self.norms[rows],
            self.numbers[chosen],
            self.same_identity.of_queries(chosen),
            self.matches,
        )

    def _locate_matches(self) -> tuple[IntArray, IntArray]:
        """Return for every match its query within the block, and its number among all matches."""
        first = self.matches.begin[self.numbers]
        size = self.matches.begin[self.numbers + 1] - first
        query = np.repeat(np.arange(len(first)), size)
        offset = first - (np.cumsum(size) - size)
        return query, np.arange(len(query)) + offset[query]


def _join(parts: list[_OpenPairs]) -> _OpenPairs:
    """Concatenate the open pairs of several slices; items are numbered through."""
    items = []
    num_before = 0
    for part in parts:
        items.append(part.item + num_before)
        num_before += len(part.rows)

    return _OpenPairs(
        np.concatenate([part.query for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.match for part in parts]),
        np.concatenate(items),
    )


def _score_runs(
    scorer: Scorer, match: IntArray, query: IntArray, rows: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Score the match of every pair, once for each run of pairs of one match."""
    begin = np.flatnonzero(np.diff(match, prepend=-1))
    run = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(match)))
    values, errors = scorer(query[begin], rows[begin])
    return values[run], errors[run]


def _mask(block: Tensor, query: IntArray, rows: IntArray) -> None:
    """Set pairs of one identity to minus infinity: they are no non-matches."""
    flat = torch.from_numpy(query * block.shape[1] + rows).to(block.device)
    block.view(-1)[flat] = -torch.inf
