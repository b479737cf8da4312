"""The nearest rows that may be negatives: exactly by tiles, or with faiss where there are very many rows."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipreid_kit.data.mining.groups import Groups
from clipreid_kit.metrics._engine.nearest_neighbours import offer

Search = Literal["auto", "exact", "faiss"]

_ROWS, _COLUMNS = 512, 8192  # a tile is 16 MB
_MANY_ROWS = 150_000  # from here on "auto" takes faiss
_LISTS, _PROBES, _TRAINING = (
    4,
    24,
    64,
)  # lists: 4 sqrt(N); of them 24 are searched; 64 rows a list train them
_FEWEST = 39  # rows that faiss wants to train a list with
_SPARE, _MOST_SPARE = 8, 128


class Nearest(NamedTuple):
    """For each row the nearest that may be its negatives.

    Attributes:
        similarity: Cosines in descending order; -inf where there are no more.
        rows: Which they are; -1 where there are no more.
    """

    similarity: Float[Tensor, "n k"]
    rows: Int[Tensor, "n k"]


@torch.no_grad()
def nearest_allowed(
    unit: Float[Tensor, "n d"],
    groups: Groups,
    count: int,
    ceiling: float | Float[Tensor, " n"],
    search: Search = "auto",
) -> Nearest:
    """Find for each row the ``count`` nearest that share no group with it and are not nearer than a ceiling.

    Args:
        unit: Rows of length 1, float32.
        groups: Pairs that are left out, a row and itself among them.
        count: At least 1.
        ceiling: Cosines from here on are left out, for all rows or for each.
        search: See :func:`mine_hard_negatives`.
    """
    many = search == "faiss" or (search == "auto" and len(unit) > _MANY_ROWS)
    if many and len(unit) >= 2 * _FEWEST:  # of fewer, faiss would make one list
        return _by_lists(unit, groups, count, ceiling)
    return _by_tiles(unit, groups, count, ceiling)


def _by_tiles(unit: Tensor, groups: Groups, count: int, ceiling: float | Tensor) -> Nearest:
    """One triangle of the matrix of similarities; every tile is offered to its rows and to its columns."""
    total = len(unit)
    similarity = torch.full((total, count), -torch.inf, device=unit.device)
    index = torch.full((total, count), -1, dtype=torch.int64, device=unit.device)
    buffer = torch.empty(min(_ROWS, total) * min(_COLUMNS, total), device=unit.device)
    for top in range(0, total, _ROWS):
        bottom = min(top + _ROWS, total)
        for left in range(top, total, _COLUMNS):
            right = min(left + _COLUMNS, total)
            tile = buffer[: (bottom - top) * (right - left)].view(bottom - top, right - left)
            with torch.autocast(unit.device.type, enabled=False):
                torch.mm(unit[top:bottom], unit[left:right].T, out=tile)
            groups.forbid(tile, top, left)
            first = max(left, bottom)  # columns that are rows of this block were offered to as rows
            by_row, below = tile, tile[:, first - left :]
            if isinstance(ceiling, Tensor):
                below = below.masked_fill(below >= ceiling[None, first:right], -torch.inf)
                by_row = tile.masked_fill_(tile >= ceiling[top:bottom, None], -torch.inf)
            elif bool(tile.amax() >= ceiling):
                tile.masked_fill_(tile >= ceiling, -torch.inf)
            offer(
                similarity[top:bottom],
                index[top:bottom],
                by_row,
                left,
                by_row=True,
                empty=top == left == 0,
            )
            if right > bottom:
                offer(
                    similarity[first:right],
                    index[first:right],
                    below,
                    top,
                    by_row=False,
                    empty=top == 0,
                )
    return Nearest(similarity, index.masked_fill_(similarity == -torch.inf, -1))


def nearest_of(
    rows: Int[Tensor, " r"],
    unit: Float[Tensor, "n d"],
    groups: Groups,
    count: int,
    ceiling: float | Tensor,
) -> Nearest:
    """As :func:`nearest_allowed`, for some rows, each compared with all."""
    found = []
    width = min(count, len(unit))
    for part in torch.split(rows, max(1, _ROWS * _COLUMNS // len(unit))):
        with torch.autocast(unit.device.type, enabled=False):
            tile = unit[part] @ unit.T
        tile[groups.pairs(part)] = -torch.inf
        limit = ceiling[part, None] if isinstance(ceiling, Tensor) else ceiling
        found.append(tile.masked_fill_(tile >= limit, -torch.inf).topk(width, dim=1))
    similarity = torch.cat([values for values, _ in found])
    index = torch.cat([places for _, places in found]).masked_fill(similarity == -torch.inf, -1)
    missing = (0, count - width)
    return Nearest(
        torch.nn.functional.pad(similarity, missing, value=-torch.inf),
        torch.nn.functional.pad(index, missing, value=-1),
    )


def _by_lists(unit: Tensor, groups: Groups, count: int, ceiling: float | Tensor) -> Nearest:
    """Inverted lists of faiss; rows for which they hold too few that are allowed are compared with all."""
    import faiss

    rows = np.ascontiguousarray(unit.cpu().numpy(), dtype=np.float32)
    total, dim = rows.shape
    lists = min(int(_LISTS * total**0.5), total // _FEWEST)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = _TRAINING
    index.train(rows)
    index.add(rows)
    index.nprobe = min(_PROBES, lists)
    wanted = min(total, count + min(groups.largest, _MOST_SPARE) + _SPARE)
    found_similarity, found_index = index.search(rows, wanted)
    similarity = torch.from_numpy(found_similarity).to(unit.device)
    place = torch.from_numpy(found_index).to(unit.device)
    mine = torch.arange(total, device=unit.device)[:, None]
    limit = ceiling[:, None] if isinstance(ceiling, Tensor) else ceiling
    left_out = (place < 0) | (similarity >= limit) | groups.together(mine, place.clamp(min=0))
    similarity.masked_fill_(left_out, -torch.inf)
    similarity, best = similarity.topk(min(count, wanted), dim=1)
    place = place.gather(1, best)
    short = torch.nonzero(similarity[:, -1] == -torch.inf).flatten()
    if similarity.shape[1] < count:
        return nearest_of(mine.flatten(), unit, groups, count, ceiling)
    if len(short):
        exact = nearest_of(short, unit, groups, count, ceiling)
        similarity[short], place[short] = exact.similarity, exact.rows
    return Nearest(similarity, place.masked_fill(similarity == -torch.inf, -1))
