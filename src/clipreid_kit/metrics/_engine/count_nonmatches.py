"""Count the non-matches ranked above, or tied with, each match: all that the measures need."""

import time

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.bfloat16_pass import PassChoice, bfloat16_allowance
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.match_pairs import MatchPairs
from clipreid_kit.metrics._engine.query_block import GalleryTile, QueryBlock, padded

IntArray = npt.NDArray[np.int64]

# a block of similarities has 16 MB of float32 numbers, and at least _MIN_QUERIES queries
_BLOCK = 1 << 22
_MIN_QUERIES = 256
# gallery rows of a tile, which QueryBlock packs into 17 bits; a quarter if they come from a file
_TILE = 1 << 17


def tile_width(gallery: EmbeddingRows) -> int:
    """Return the number of gallery rows that are compared at once."""
    return min(len(gallery), _TILE // 4 if gallery.streamed else _TILE)


def count_nonmatches(
    queries: EmbeddingRows,
    gallery: EmbeddingRows,
    pairs: MatchPairs,
    junk_rows: IntArray,
    matches: MatchCounts,
    distance: Distance,
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
    """
    norms = queries.norms(0, len(queries))
    largest_norm = float(norms.max())
    choice = PassChoice(bfloat16_allowance(queries, gallery, distance))

    width = tile_width(gallery)
    max_queries = min(len(queries), max(_MIN_QUERIES, min(2 * _MIN_QUERIES, _BLOCK // width)))
    # bfloat16 numbers take half of the space
    num_buffered = (max_queries + 1) // 2 if choice.use_bfloat16 else max_queries
    buffer = _empty(num_buffered * padded(width), queries)

    query_of_pair = pairs.query
    for left in range(0, len(gallery), width):
        right = min(left + width, len(gallery))
        rows = gallery.block(left, right)
        row_norms = gallery.norms(left, right, rows)

        # junk is no non-match, and never a match
        is_kept = np.ones(right - left, dtype=bool)
        is_kept[junk_rows[(junk_rows >= left) & (junk_rows < right)] - left] = False
        position = np.cumsum(is_kept) - 1
        if not is_kept.any():
            continue
        if not is_kept.all():
            kept = torch.from_numpy(np.flatnonzero(is_kept)).to(rows.device)
            rows, row_norms = rows[kept], row_norms[kept]

        tile = GalleryTile(
            rows, row_norms, distance, largest_norm, position, try_bfloat16=choice.use_bfloat16
        )

        inside = (pairs.rows >= left) & (pairs.rows < right)
        tile_query, tile_rows = query_of_pair[inside], position[pairs.rows[inside] - left]

        stop = 0
        while stop < len(queries):
            start = stop
            began = time.perf_counter()
            stop = min(start + choice.num_queries(max_queries), len(queries))

            part = slice(*tile_query.searchsorted([start, stop]).tolist())
            block = QueryBlock(
                tile,
                queries.block(start, stop),
                norms[start:stop],
                np.arange(start, stop),
                (tile_query[part] - start, tile_rows[part]),
                matches,
            )
            block.count(buffer, try_bfloat16=choice.use_bfloat16)
            choice.record(time.perf_counter() - began, (stop - start) * (right - left))

            # once float32 is chosen, it takes the space of both
            if tile.bfloat16 is not None and choice.is_settled and not choice.use_bfloat16:
                tile.bfloat16 = None
                buffer = _empty(max_queries * padded(width), queries)

        del rows, tile, block  # before the next tile is read


def _empty(size: int, queries: EmbeddingRows) -> Tensor:
    return torch.empty(size, dtype=torch.float32, device=queries.device)
