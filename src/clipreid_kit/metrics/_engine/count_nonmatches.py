"""Count the non-matches ranked above, or tied with, each match: all that the measures need."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit._similarity.rescore import ignore_sparse_warning
from clipreid_kit._threads import OwnThreads, default_threads, own_threads
from clipreid_kit.metrics._engine.bfloat16_pass import PassChoice, bfloat16_allowance
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.match_pairs import MatchPairs
from clipreid_kit.metrics._engine.query_block import GalleryTile, QueryBlock, padded

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# a block of similarities has 16 MB of float32 numbers; the blocks of all threads together have
# _MIN_QUERIES queries at least
_BLOCK = 1 << 22
_MIN_QUERIES = 256
_MIN_QUERIES_EACH = 64  # of the block of one thread, if the others leave it fewer
_WORTH_THREADS = 1 << 26  # multiplications of an evaluation that pays for threads
_TILE = 1 << 17  # gallery rows of a tile, which QueryBlock packs into 17 bits
# so many times fewer if they come from a file: then 500 queries share a block, a faster product
_FILE_DIVISOR = 16
# queries without a match are left out if they are more than 1/8: the others are copied
_IDLE_DIVISOR = 8

AfterTile = Callable[[int], None]


def tile_width(gallery: EmbeddingRows) -> int:
    """Return the number of gallery rows that are compared at once."""
    return min(len(gallery), _TILE // _FILE_DIVISOR if gallery.streamed else _TILE)


def count_nonmatches(
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    pairs: MatchPairs,
    junk_rows: IntArray,
    matches: MatchCounts,
    distance: Distance,
    *,
    first_row: int = 0,
    max_width: int = _TILE,
    after_tile: AfterTile | None = None,
) -> None:
    """Count the non-matches of this gallery above and tied with each match; add to ``matches``.

    Neither the matrix of all similarities nor a sorted gallery is built: a block of queries is
    scored by one matrix product, its error bound decides almost every pair, and undecided pairs are
    scored exactly. So the counts are those of the exact similarities, on any machine.

    Args:
        queries: (Q, D).
        gallery: (G, D).
        pairs: For each query the gallery rows of its identity: none of them is a non-match.
        junk_rows: Gallery rows that are never non-matches.
        matches: The matches. Their exact similarities have to be known, unless the gallery is a
            single tile that holds all matches.
        distance: ``"cosine"`` or ``"euclidean"``.
        first_row: Gallery row to begin with; those before it were counted already.
        max_width: Gallery rows of a tile, at most.
        after_tile: Called after each tile with the number of gallery rows that are counted.
    """
    queries, pairs, matches = _leave_out_idle_queries(queries, pairs, matches)
    with own_threads(_num_threads(queries, gallery)) as threads, ignore_sparse_warning():
        counter = _Counter(queries, pairs, matches, distance, threads)
        width = min(tile_width(gallery), max_width)
        allowance = threads.call(lambda: bfloat16_allowance(queries, gallery, distance))
        choice = PassChoice(allowance)

        for left, rows, row_norms in _read_tiles(gallery, width, first_row):
            right = left + len(rows)

            # junk is no non-match, and never a match
            is_kept = np.ones(right - left, dtype=bool)
            is_kept[junk_rows[(junk_rows >= left) & (junk_rows < right)] - left] = False
            if is_kept.any():
                counter.count_tile(left, rows, row_norms, is_kept, choice)
            del rows  # before the next tile is read
            if after_tile is not None:
                after_tile(right)


def _leave_out_idle_queries(
    queries: EmbeddingRows, pairs: MatchPairs, matches: MatchCounts
) -> tuple[EmbeddingRows, MatchPairs, MatchCounts]:
    """Return the queries that have a match, with their pairs and a view of the matches."""
    chosen, of_chosen = matches.with_matches()
    num_idle = len(queries) - len(chosen)
    if num_idle * _IDLE_DIVISOR <= len(queries) or len(chosen) == 0:
        return queries, pairs, matches
    return queries.select(chosen), pairs.of_queries(chosen), of_chosen


def _read_tiles(
    gallery: EmbeddingRows, width: int, first_row: int = 0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the first row of each tile from ``first_row`` on, its rows and their norms.

    Each tile of a file is read while the one before it is counted, if there is a thread for it.
    """

    def read(left: int) -> tuple[int, Tensor, Tensor]:
        right = min(left + width, len(gallery))
        rows = gallery.block(left, right)
        return left, rows, gallery.norms(left, right, rows)

    starts = range(first_row, len(gallery), width)
    if not gallery.streamed or default_threads() == 1:
        yield from map(read, starts)
        return

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, first_row)
        for left in starts[1:]:
            tile = coming.result()
            coming = reader.submit(read, left)
            yield tile
            del tile
        yield coming.result()


class _Counter:
    """Count the non-matches of one tile of the gallery after another.

    Args:
        queries: (Q, D).
        pairs: For each query the gallery rows of its identity.
        matches: The matches; counts are added to them.
        distance: ``"cosine"`` or ``"euclidean"``.
        threads: Threads; each takes a block of queries at a time.
    """

    def __init__(
        self,
        queries: EmbeddingRows,
        pairs: MatchPairs,
        matches: MatchCounts,
        distance: Distance,
        threads: OwnThreads,
    ) -> None:
        self.queries = queries
        self.pairs = pairs
        self.matches = matches
        self.distance = distance
        self.threads = threads

        self._norms = queries.norms(0, len(queries))
        self._largest_norm = float(self._norms.max())
        self._buffers: deque[Tensor] = deque()  # those that no thread is using

    def count_tile(
        self, left: int, rows: Tensor, norms: Tensor, is_kept: BoolArray, choice: PassChoice
    ) -> None:
        """Count the non-matches in one tile.

        Args:
            left: The first row of the tile.
            rows: Rows of the tile.
            norms: Their norms.
            is_kept: Which of them are no junk: at least one.
            choice: Which pass goes first.
        """
        position = np.cumsum(is_kept) - 1
        same_identity = self.pairs
        if left > 0 or int(same_identity.rows.max(initial=-1)) >= len(rows):
            same_identity = same_identity.within(left, left + len(rows))
        if not is_kept.all():
            same_identity = replace(same_identity, rows=position[same_identity.rows])

        tile = self.threads.call(lambda: self._tile(rows, norms, is_kept, position, choice))
        size = self._queries_of_block(len(rows))
        stop = 0

        while not choice.is_settled and stop < len(self.queries):
            start, stop = stop, min(stop + choice.num_queries(size), len(self.queries))
            self._time_block(tile, start, stop, same_identity, choice)

        if not choice.use_bfloat16:
            tile.bfloat16 = None

        def count(start: int) -> None:
            end = min(start + size, len(self.queries))
            self._count_block(tile, start, end, same_identity, try_bfloat16=choice.use_bfloat16)

        deque(self.threads.map(count, range(stop, len(self.queries), size)), maxlen=0)

    def _tile(
        self,
        rows: Tensor,
        norms: Tensor,
        is_kept: BoolArray,
        position: IntArray,
        choice: PassChoice,
    ) -> GalleryTile:
        """Prepare the rows of a tile without junk."""
        if not is_kept.all():
            kept = torch.from_numpy(np.flatnonzero(is_kept)).to(rows.device)
            rows, norms = rows[kept], norms[kept]
        return GalleryTile(
            rows,
            norms,
            self.distance,
            self._largest_norm,
            position,
            try_bfloat16=choice.use_bfloat16,
        )

    def _queries_of_block(self, width: int) -> int:
        """Return the number of queries of a block; where a tile is wide, threads share them."""
        most = min(2 * _MIN_QUERIES, _BLOCK // width)
        together = max(_MIN_QUERIES, most)
        fewest = min(together, _MIN_QUERIES_EACH)
        size = max(most, fewest, together // self.threads.count)

        # the last block of each thread should end with those of the others
        num_blocks = -(-len(self.queries) // size)
        num_blocks = -(-num_blocks // self.threads.count) * self.threads.count
        return -(-len(self.queries) // num_blocks)

    def _time_block(
        self,
        tile: GalleryTile,
        start: int,
        stop: int,
        same_identity: MatchPairs,
        choice: PassChoice,
    ) -> None:
        """Count a block while the faster pass is being chosen."""

        def count() -> float:
            began = time.perf_counter()
            use_bfloat16 = choice.use_bfloat16
            self._count_block(tile, start, stop, same_identity, try_bfloat16=use_bfloat16)
            return time.perf_counter() - began

        choice.record(self.threads.call(count), (stop - start) * len(tile.position))

    def _count_block(
        self,
        tile: GalleryTile,
        start: int,
        stop: int,
        same_identity: MatchPairs,
        *,
        try_bfloat16: bool,
    ) -> None:
        """Count the non-matches of one tile for some queries."""
        block = QueryBlock(
            tile,
            self.queries.block(start, stop),
            self._norms[start:stop],
            np.arange(start, stop),
            same_identity.part(start, stop),
            self.matches,
        )

        # bfloat16 numbers take half of the space; a sorted row needs all of it
        width = padded(len(tile.norms))
        num_numbers = (stop - start) * width
        size = max(width, (num_numbers + 1) // 2) if try_bfloat16 else num_numbers
        buffer = self._buffers.pop() if self._buffers else torch.empty(0, device="cpu")
        if len(buffer) < size:
            buffer = torch.empty(size, dtype=torch.float32, device=self.queries.device)
        block.count(buffer, try_bfloat16=try_bfloat16)
        self._buffers.append(buffer)


def _num_threads(queries: EmbeddingRows, gallery: EmbeddingRows) -> int:
    """Return how many threads pay: each needs some queries, and a GPU needs one thread."""
    num_multiplications = len(queries) * len(gallery) * gallery.shape[1]
    if queries.device.type != "cpu" or num_multiplications < _WORTH_THREADS:
        return 1
    return max(1, min(default_threads(), len(queries) // _MIN_QUERIES_EACH))
