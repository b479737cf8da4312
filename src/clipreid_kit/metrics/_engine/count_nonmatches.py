"""How many wrong gallery items stand above each match, and how many exactly beside it: all that the measures need."""

import time

import numpy as np
import numpy.typing as npt
import torch

from clipreid_kit.metrics._engine.bfloat16_pass import Pace, bfloat16_pays
from clipreid_kit.metrics._engine.embedding_rows import Rows
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.identity_matches import Pairs
from clipreid_kit.metrics._engine.match_counts import Matches
from clipreid_kit.metrics._engine.query_block import Block, Tile

IntArray = npt.NDArray[np.int64]

_BLOCK = (
    1 << 22
)  # float32 elements of a block of similarities: 16 MB, if that is _ROWS queries at least
_ROWS = 256
_TILE = (
    1 << 17
)  # gallery rows of a tile (Block packs them into 17 bits); a quarter where they come from a file


def tile_width(gallery: Rows) -> int:
    """Number of gallery rows that are looked at together."""
    return min(len(gallery), _TILE // 4 if gallery.streamed else _TILE)


def count_wrong(
    queries: Rows,
    gallery: Rows,
    same: Pairs,
    ignored: IntArray,
    matches: Matches,
    distance: Distance,
) -> None:
    """Count the wrong items of this gallery above and beside each match, and add them up in ``matches``.

    Neither the matrix of all similarities nor a sorted gallery is built: a block of queries is scored by one matrix
    product, its error bound decides almost every pair, and the undecided ones are scored exactly. So the counts are
    those of the exact similarities, whatever the machine.

    Args:
        queries: (Q, D).
        gallery: (G, D).
        same: For each query the gallery rows of its identity: none of them is wrong.
        ignored: Gallery rows that are never wrong.
        matches: The matches. Their exact scores have to be known, unless the gallery is one tile and holds them all.
        distance: ``"cosine"`` or ``"euclidean"``.
    """
    norms = queries.norms(0, len(queries))
    reach = float(norms.max())
    width = tile_width(gallery)
    pace = Pace(bfloat16_pays(queries, gallery, distance))
    step = min(len(queries), max(_ROWS, min(2 * _ROWS, _BLOCK // width)))
    room = (step + 1) // 2 if pace.low else step  # of bfloat16 numbers twice as many fit
    buffer = torch.empty(room * width, dtype=torch.float32, device=queries.device)
    same_query = same.query
    for left in range(0, len(gallery), width):
        right = min(left + width, len(gallery))
        rows = gallery.block(left, right)
        tile = Tile(rows, gallery.norms(left, right, rows), distance, reach, pace.low)
        inside = (same.rows >= left) & (same.rows < right)
        tile_query, tile_rows = same_query[inside], same.rows[inside] - left
        skip = ignored[(ignored >= left) & (ignored < right)] - left
        stop = 0
        while stop < len(queries):
            start, began = stop, time.perf_counter()
            stop = min(start + pace.rows(step), len(queries))
            part = slice(*tile_query.searchsorted([start, stop]).tolist())
            of_same = tile_query[part] - start, tile_rows[part]
            numbers = np.arange(start, stop)
            block = Block(
                tile, queries.block(start, stop), norms[start:stop], numbers, of_same, skip, matches
            )
            block.count(buffer, pace.low)
            pace.took(time.perf_counter() - began, (stop - start) * (right - left))
            if tile.low is not None and pace.settled and not pace.low:  # float32 takes the room
                tile.low, buffer = (
                    None,
                    torch.empty(step * width, dtype=torch.float32, device=queries.device),
                )
        del rows, tile, block  # before the next is read
