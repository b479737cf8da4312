"""Lists of the nearest items of each row, updated by one tile of similarities after the other."""

import numpy as np
import torch
from torch import Tensor


def flat_nonzero(tile: Tensor, threshold: Tensor, *, strict: bool) -> Tensor:
    """Return the flat indices of values above a threshold (or not below it, if not ``strict``)."""
    if tile.device.type == "cpu":  # numpy is several times faster there
        values, lowest = tile.numpy(), threshold.numpy()
        return torch.from_numpy(np.flatnonzero(values > lowest if strict else values >= lowest))

    is_found = tile > threshold if strict else tile >= threshold
    return torch.nonzero(is_found.flatten()).flatten()


def first_of_largest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest values of each row, descending, and their columns; of ties the first.

    ``torch.topk`` returns any of several equal values.
    """
    values, columns = matrix.topk(count, dim=1)
    if count == 0:
        return values, columns

    lowest = values[:, -1:]
    has_more = ((matrix >= lowest).sum(dim=1) > count) & (lowest[:, 0] > -torch.inf)
    rows = torch.nonzero(has_more).flatten()
    if rows.numel() > 0:
        # All that are larger, and the first of those that are equal to the smallest.
        crowded, limit = matrix[rows], lowest[rows]
        num_larger = (crowded > limit).sum(dim=1, keepdim=True)
        is_equal = crowded == limit
        is_first = is_equal & (is_equal.cumsum(dim=1) <= count - num_larger)
        chosen = torch.nonzero((crowded > limit) | is_first)[:, 1]
        columns[rows] = chosen.view(len(rows), count)

    columns = columns.sort(dim=1).values
    values, order = matrix.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def offer(
    nearness: Tensor,
    index: Tensor,
    tile: Tensor,
    offset: int,
    *,
    by_row: bool,
    empty: bool,
    first_of_ties: bool = False,
) -> None:
    """Update lists of nearest items with a tile, each of whose rows (or columns) belongs to a list.

    Args:
        nearness: Nearness of the items of each list, descending; -inf where a list is not full.
        index: The items.
        tile: Nearness of new items; -inf for those that must not enter (they may fill lists that
            stay short).
        offset: Index of the first item of the tile.
        by_row: Whether a list belongs to a row of the tile, and its columns are items.
        empty: Whether all lists are empty.
        first_of_ties: Whether of equally near items the first enter, and come first, if items are
            offered in their order; else any of them.
    """
    if not empty:
        last = nearness[:, -1:]
        flat = flat_nonzero(tile, last if by_row else last.T, strict=True)
    if empty or flat.numel() > tile.numel() // 16:
        offered = tile if by_row else tile.T.contiguous()
        count = min(nearness.shape[1], offered.shape[1])
        if first_of_ties:
            values, columns = first_of_largest(offered, count)
        else:
            values, columns = offered.topk(count, dim=1)
        _merge(nearness, index, values, columns + offset, first_of_ties)
        return

    row = torch.div(flat, tile.shape[1], rounding_mode="floor")
    column = flat % tile.shape[1]
    values = tile[row, column]
    if by_row:
        owner, item = row, column
    else:
        owner, order = torch.sort(column, stable=True)
        values, item = values[order], row[order]

    counts = torch.bincount(owner, minlength=nearness.shape[0])
    lists = torch.nonzero(counts).flatten()
    if lists.numel() == 0:
        return

    # the new items of every list that has any, in the columns of a padded matrix
    slot = torch.cumsum(counts > 0, 0)[owner] - 1
    num_before = torch.cumsum(counts, 0) - counts
    position = torch.arange(owner.numel(), device=owner.device) - num_before[owner]
    shape = lists.numel(), int(counts.max())
    new_nearness = torch.full(shape, -torch.inf, dtype=values.dtype, device=values.device)
    new_nearness[slot, position] = values
    new_index = torch.zeros(shape, dtype=torch.int64, device=values.device)
    new_index[slot, position] = item + offset

    chosen_nearness, chosen_index = nearness[lists], index[lists]
    _merge(chosen_nearness, chosen_index, new_nearness, new_index, first_of_ties)
    nearness[lists] = chosen_nearness
    index[lists] = chosen_index


def _merge(
    nearness: Tensor,
    index: Tensor,
    new_nearness: Tensor,
    new_index: Tensor,
    first_of_ties: bool,
) -> None:
    """Keep the nearest of old and new items, in place."""
    both = torch.cat([nearness, new_nearness], dim=1)
    count = nearness.shape[1]
    if first_of_ties:
        best, position = both.sort(dim=1, descending=True, stable=True)
        best, position = best[:, :count], position[:, :count]
    else:
        best, position = both.topk(count, dim=1)
    index.copy_(torch.cat([index, new_index], dim=1).gather(1, position))
    nearness.copy_(best)
