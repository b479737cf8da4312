"""Nearest allowed neighbours: exactly by tiles, or with faiss for very many rows."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipreid_kit._similarity.nearest_lists import first_of_largest, offer
from clipreid_kit.data.mining._row_groups import RowGroups

Search = Literal["auto", "exact", "faiss"]

_ROWS, _COLUMNS = 512, 8192  # a tile is 16 MB
_MANY_ROWS = 150_000  # above this, "auto" uses faiss

_LISTS = 4  # there are 4 sqrt(N) inverted lists
_PROBES = 24  # lists that are searched for each row
_TRAINING = 64  # rows for each list that faiss trains them with
_MIN_TRAINING = 39  # rows for each list below which faiss warns
_SPARE, _MAX_SPARE = 8, 128  # neighbours asked for in excess, since some are excluded


class Nearest(NamedTuple):
    """The nearest rows that may be negatives of each row.

    Attributes:
        similarity: Cosines in descending order; -inf where there are no more.
        rows: The neighbours; -1 where there are no more.
    """

    similarity: Float[Tensor, "n k"]
    rows: Int[Tensor, "n k"]


@torch.no_grad()
def nearest_allowed(
    unit: Float[Tensor, "n d"],
    groups: RowGroups,
    count: int,
    ceiling: float | Float[Tensor, " n"],
    search: Search = "auto",
) -> Nearest:
    """Find the ``count`` nearest rows that share no group with each row and stay below a ceiling.

    Of equally near rows the first are taken, so that fewer neighbours are a part of more.

    Args:
        unit: Rows of length 1, float32.
        groups: Pairs to exclude; each row with itself is one of them.
        count: Number of neighbours, at least 1.
        ceiling: Cosine from which on rows are excluded: one for all rows, or one for each.
        search: See :func:`mine_hard_negatives`.
    """
    use_faiss = search == "faiss" or (search == "auto" and len(unit) > _MANY_ROWS)

    # For fewer rows, faiss would make a single list.
    if use_faiss and len(unit) >= 2 * _MIN_TRAINING:
        return _by_inverted_lists(unit, groups, count, ceiling)

    return _by_tiles(unit, groups, count, ceiling)


def nearest_of_rows(
    rows: Int[Tensor, " r"],
    unit: Float[Tensor, "n d"],
    groups: RowGroups,
    count: int,
    ceiling: float | Float[Tensor, " n"],
) -> Nearest:
    """Like :func:`nearest_allowed`, for some rows only, each compared with all rows."""
    width = min(count, len(unit))
    similarities, neighbours = [], []

    for part in torch.split(rows, max(1, _ROWS * _COLUMNS // len(unit))):
        with torch.autocast(unit.device.type, enabled=False):
            tile = unit[part] @ unit.T

        tile[groups.pairs(part)] = -torch.inf
        limit = ceiling[part, None] if isinstance(ceiling, Tensor) else ceiling
        tile.masked_fill_(tile >= limit, -torch.inf)
        similarity, neighbour = first_of_largest(tile, width)
        similarities.append(similarity)
        neighbours.append(neighbour)

    similarity = torch.cat(similarities)
    neighbour = torch.cat(neighbours).masked_fill(similarity == -torch.inf, -1)

    missing = (0, count - width)
    return Nearest(
        torch.nn.functional.pad(similarity, missing, value=-torch.inf),
        torch.nn.functional.pad(neighbour, missing, value=-1),
    )


def _by_tiles(
    unit: Float[Tensor, "n d"], groups: RowGroups, count: int, ceiling: float | Tensor
) -> Nearest:
    """Compute one triangle of the similarity matrix, tile by tile.

    Every tile is offered to the lists of its rows and to those of its columns.
    """
    total = len(unit)
    similarity = torch.full((total, count), -torch.inf, dtype=torch.float32, device=unit.device)
    index = torch.full((total, count), -1, dtype=torch.int64, device=unit.device)
    buffer = torch.empty(
        min(_ROWS, total) * min(_COLUMNS, total), dtype=torch.float32, device=unit.device
    )

    for top in range(0, total, _ROWS):
        bottom = min(top + _ROWS, total)

        for left in range(top, total, _COLUMNS):
            right = min(left + _COLUMNS, total)
            tile = buffer[: (bottom - top) * (right - left)].view(bottom - top, right - left)
            with torch.autocast(unit.device.type, enabled=False):
                torch.mm(unit[top:bottom], unit[left:right].T, out=tile)
            groups.exclude(tile, top, left)

            # Columns that are also rows of this block got their offer as rows.
            rows = slice(top, bottom)
            columns = slice(max(left, bottom), right)
            by_row, by_column = _without_too_near(tile, left, rows, columns, ceiling)

            is_first = top == left == 0
            offer(
                similarity[rows],
                index[rows],
                by_row,
                left,
                by_row=True,
                empty=is_first,
                first_of_ties=True,
            )
            if right > bottom:
                offer(
                    similarity[columns],
                    index[columns],
                    by_column,
                    top,
                    by_row=False,
                    empty=top == 0,
                    first_of_ties=True,
                )

    return Nearest(similarity, index.masked_fill_(similarity == -torch.inf, -1))


def _without_too_near(
    tile: Tensor, left: int, rows: slice, columns: slice, ceiling: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Hide similarities from a ceiling on, in place where one ceiling holds for all.

    Args:
        tile: Similarities, overwritten.
        left: Number of its first column.
        rows: Rows of the tile.
        columns: Its columns that take the rows as neighbours.
        ceiling: One for all, or one for each row of the matrix.

    Returns:
        What the rows are offered, and what those columns are.
    """
    by_column = tile[:, columns.start - left :]
    if isinstance(ceiling, Tensor):
        too_near = by_column >= ceiling[None, columns]
        by_column = by_column.masked_fill(too_near, -torch.inf)
        return tile.masked_fill_(tile >= ceiling[rows, None], -torch.inf), by_column

    if bool(tile.amax() >= ceiling):
        tile.masked_fill_(tile >= ceiling, -torch.inf)
    return tile, by_column


def _by_inverted_lists(
    unit: Float[Tensor, "n d"], groups: RowGroups, count: int, ceiling: float | Tensor
) -> Nearest:
    """Search inverted lists of faiss.

    Rows for which these hold too few allowed neighbours are compared with all rows.
    """
    total = len(unit)
    wanted = min(total, count + min(groups.largest, _MAX_SPARE) + _SPARE)
    similarity, neighbour = _search_with_faiss(unit, wanted)

    rows = torch.arange(total, device=unit.device)
    limit = ceiling[:, None] if isinstance(ceiling, Tensor) else ceiling
    is_excluded = (neighbour < 0) | (similarity >= limit)
    is_excluded |= groups.share_group(rows[:, None], neighbour.clamp(min=0))

    similarity.masked_fill_(is_excluded, -torch.inf)
    neighbour, order = neighbour.sort(dim=1)
    similarity, best = first_of_largest(similarity.gather(1, order), min(count, wanted))
    neighbour = neighbour.gather(1, best)

    if similarity.shape[1] < count:
        return nearest_of_rows(rows, unit, groups, count, ceiling)

    incomplete = torch.nonzero(similarity[:, -1] == -torch.inf).flatten()
    if len(incomplete):
        exact = nearest_of_rows(incomplete, unit, groups, count, ceiling)
        similarity[incomplete], neighbour[incomplete] = exact.similarity, exact.rows

    return Nearest(similarity, neighbour.masked_fill(similarity == -torch.inf, -1))


def _search_with_faiss(unit: Float[Tensor, "n d"], wanted: int) -> tuple[Tensor, Tensor]:
    """Return cosines and indices of the ``wanted`` nearest rows that faiss finds; -1 for none."""
    import faiss

    rows = np.ascontiguousarray(unit.cpu().numpy(), dtype=np.float32)
    total, dim = rows.shape
    num_lists = min(int(_LISTS * total**0.5), total // _MIN_TRAINING)

    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, num_lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = _TRAINING
    index.train(rows)
    index.add(rows)
    index.nprobe = min(_PROBES, num_lists)

    similarity, neighbour = index.search(rows, wanted)
    return (
        torch.from_numpy(similarity).to(unit.device),
        torch.from_numpy(neighbour).to(unit.device),
    )
