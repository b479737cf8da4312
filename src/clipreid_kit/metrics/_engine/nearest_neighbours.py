"""Nearest neighbours of every row, exact by a stated rule, without the matrix of all distances.

The neighbours of a row are the other rows by exact similarity, the lower index first among equals. A float32 matrix
product, tile by tile, decides almost every row; rows where its error bound leaves a boundary open are scored again
exactly. So neighbours do not depend on BLAS, threads, tile size or device.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics._engine.similarity_space import Space, nonzero

_ROWS, _COLUMNS = 512, 8192  # a tile is 16 MB


@torch.no_grad()
def nearest_others(
    space: Space,
    count: int,
    prefixes: Sequence[int] = (),
    *,
    keep: tuple[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the ``count`` nearest other rows of every row, and the distance to the farthest one.

    Only one triangle of the symmetric matrix is computed; every tile is offered to its rows and to its columns.

    Args:
        space: N rows.
        count: 1 to N - 1.
        prefixes: Lengths of shorter lists that have to be right, too, as sets; numbers beyond ``count`` are ignored.
        keep: A number Q and a matrix (Q, N - Q): the nearness of the first Q rows to the others is left there.

    Returns:
        Neighbours (N, count) int64, and for each row the least nearness (N,), float32.
    """
    total = len(space)
    kept = min(
        count + 1, total - 1
    )  # one more than asked for shows whether the last place is certain
    device = space.rows.device
    nearness = torch.full((total, kept), -torch.inf, device=device)
    index = torch.zeros((total, kept), dtype=torch.int64, device=device)
    least = torch.full((total,), torch.inf, device=device)
    buffer = torch.empty(min(_ROWS, total) * min(_COLUMNS, total), device=device)
    for top in range(0, total, _ROWS):
        bottom = min(top + _ROWS, total)
        for left in range(top, total, _COLUMNS):
            right = min(left + _COLUMNS, total)
            tile = space.nearness(slice(top, bottom), slice(left, right), buffer)
            if keep is not None:
                _keep(tile, top, left, *keep)
            torch.minimum(least[top:bottom], tile.amin(dim=1), out=least[top:bottom])
            if left == top:
                tile.diagonal().fill_(-torch.inf)
            offer(
                nearness[top:bottom],
                index[top:bottom],
                tile,
                left,
                by_row=True,
                empty=top == left == 0,
            )
            if right > bottom:
                first = max(left, bottom)
                below = tile[:, first - left :]
                torch.minimum(least[first:right], below.amin(dim=0), out=least[first:right])
                offer(
                    nearness[first:right],
                    index[first:right],
                    below,
                    top,
                    by_row=False,
                    empty=top == 0,
                )
    index = _settle(
        space,
        slice(0, total),
        slice(0, total),
        nearness,
        index,
        (*(p for p in prefixes if p < count), count),
        others=True,
    )
    return index[:, :count], least


@torch.no_grad()
def nearest_between(space: Space, rows: slice, columns: slice, count: int) -> Tensor:
    """Find, for some rows, the ``count`` nearest of other rows, as indices into the space: two disjoint ranges."""
    width = columns.stop - columns.start
    kept = min(count + 1, width)
    step = max(1, _ROWS * _COLUMNS // width)
    found = []
    for start in range(rows.start, rows.stop, step):
        part = slice(start, min(start + step, rows.stop))
        nearness, index = space.nearness(part, columns).topk(kept, dim=1)
        found.append(
            _settle(space, part, columns, nearness, index + columns.start, (count,), others=False)
        )
    return torch.cat(found)[:, :count]


def _keep(tile: Tensor, top: int, left: int, num_queries: int, out: Tensor) -> None:
    rows, skipped = min(tile.shape[0], num_queries - top), max(0, num_queries - left)
    if rows > 0 and skipped < tile.shape[1]:
        first = left + skipped - num_queries
        out[top : top + rows, first : first + tile.shape[1] - skipped] = tile[:rows, skipped:]


def offer(
    nearness: Tensor, index: Tensor, tile: Tensor, offset: int, *, by_row: bool, empty: bool
) -> None:
    """Update lists, in descending order, with a tile: each of its rows (or columns) belongs to one list.

    Lists of nothing yet hold -inf. Items that shall not enter have -inf in the tile; they may fill lists that stay
    short.
    """
    if not empty:
        last = nearness[:, -1:]
        flat = nonzero(tile, last if by_row else last.T, strict=True)
    if empty or flat.numel() > tile.numel() // 16:
        offered = tile if by_row else tile.T.contiguous()
        values, places = offered.topk(min(nearness.shape[1], offered.shape[1]), dim=1)
        _merge(nearness, index, values, places + offset)
        return
    row, column = torch.div(flat, tile.shape[1], rounding_mode="floor"), flat % tile.shape[1]
    values = tile[row, column]
    owner, place = (row, column) if by_row else (column, row)
    if not by_row:
        owner, order = torch.sort(owner, stable=True)
        values, place = values[order], place[order]
    counts = torch.bincount(owner, minlength=nearness.shape[0])
    lists = torch.nonzero(counts).flatten()
    if lists.numel() == 0:
        return
    slot = torch.cumsum(counts > 0, 0)[owner] - 1
    position = (
        torch.arange(owner.numel(), device=owner.device) - (torch.cumsum(counts, 0) - counts)[owner]
    )
    width = int(counts.max())
    padded = torch.full((lists.numel(), width), -torch.inf, device=values.device)
    padded[slot, position] = values
    places = torch.zeros((lists.numel(), width), dtype=torch.int64, device=values.device)
    places[slot, position] = place + offset
    chosen_nearness, chosen_index = nearness[lists], index[lists]
    _merge(chosen_nearness, chosen_index, padded, places)
    nearness[lists], index[lists] = chosen_nearness, chosen_index


def _merge(nearness: Tensor, index: Tensor, values: Tensor, places: Tensor) -> None:
    both = torch.cat([nearness, values], dim=1)
    best, where = both.topk(nearness.shape[1], dim=1)
    index.copy_(torch.cat([index, places], dim=1).gather(1, where))
    nearness.copy_(best)


def _settle(
    space: Space,
    rows: slice,
    columns: slice,
    nearness: Tensor,
    index: Tensor,
    boundaries: Sequence[int],
    *,
    others: bool,
) -> Tensor:
    """Score again every row where two items on both sides of a boundary are nearer to each other than the error."""
    error = space.error[rows]
    count, available = boundaries[-1], columns.stop - columns.start - others
    open_rows = torch.zeros(error.shape, dtype=torch.bool, device=error.device)
    for boundary in boundaries:
        if 0 < boundary < available:
            gap = nearness[:, boundary - 1].double() - nearness[:, boundary].double()
            open_rows |= gap <= 2 * error
    unsettled = torch.nonzero(open_rows).flatten()
    if unsettled.numel() == 0:
        return index
    last = nearness[:, count - 1].double() - 2 * error
    step = max(1, _ROWS * _COLUMNS // (columns.stop - columns.start))
    copies: npt.NDArray[np.int64] | None = None
    for part in torch.split(unsettled, step):
        tile = space.nearness(part + rows.start, columns)
        if others:
            tile[torch.arange(len(part), device=tile.device), part] = -torch.inf
        lowest = torch.nextafter(last[part].float(), torch.tensor(-torch.inf, device=tile.device))
        flat = nonzero(tile, lowest[:, None], strict=False)
        row = torch.div(flat, tile.shape[1], rounding_mode="floor").cpu().numpy()
        column = (flat % tile.shape[1] + columns.start).cpu().numpy()
        if len(row) > 64 * count * len(
            part
        ):  # of equal rows only the first few can be among the neighbours
            copies = _earlier_copies(space.groups(columns)) if copies is None else copies
            few = copies[column - columns.start] <= count
            row, column = row[few], column[few]
        mine = part.cpu().numpy() + rows.start
        scores = space.exact(mine[row], column)
        order = np.lexsort((column, -scores, row))
        begin = np.searchsorted(row[order], np.arange(len(part)))
        chosen = column[order[begin[:, None] + np.arange(count)]]
        index[part, :count] = torch.from_numpy(chosen).to(index.device)
    return index


def _earlier_copies(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many before each have its number."""
    order = np.argsort(groups, kind="stable")
    ascending = groups[order]
    earlier = np.empty(len(groups), dtype=np.int64)
    earlier[order] = np.arange(len(groups)) - np.searchsorted(ascending, ascending, side="left")
    return earlier
