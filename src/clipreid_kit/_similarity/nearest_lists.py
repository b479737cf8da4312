"""Lists of the nearest items of each row, updated by one tile of similarities after the other."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_GROUP = 64  # items whose largest value is looked at first
_LEAST_GROUPED = 1 << 14  # values of a tile from which on that pays
_GROUPS_PER_ITEM = 8  # groups for each item of an empty list: few have more than one such item
_LEAST_GROUP = 4  # items of a group that pay for it


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


class NewItems(NamedTuple):
    """Items that may enter lists of nearest items.

    Attributes:
        lists: Numbers of the lists (L,); ``None`` for all lists, in their order.
        nearness: (L, M), -inf where a list has fewer than M of them.
        items: (L, M), the items.
    """

    lists: Tensor | None
    nearness: Tensor
    items: Tensor


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
    new = find_nearer(
        nearness, tile, offset, by_row=by_row, empty=empty, first_of_ties=first_of_ties
    )
    if new is not None:
        enter(nearness, index, new, first_of_ties=first_of_ties)


def find_nearer(
    nearness: Tensor,
    tile: Tensor,
    offset: int,
    *,
    by_row: bool,
    empty: bool,
    first_of_ties: bool = False,
) -> NewItems | None:
    """Find the items of a tile that may enter lists, and leave the lists as they are.

    Arguments are those of :func:`offer`. Lists may get other items before these :func:`enter`.
    """
    below = _below_the_nearest(tile, nearness.shape[1], by_row) if empty else nearness[:, -1:]
    nearer = None if below is None else _nearer_than_last(tile, below, by_row)
    if nearer is None or nearer.item.numel() > tile.numel() // 16:
        offered = tile if by_row else tile.T.contiguous()
        count = min(nearness.shape[1], offered.shape[1])
        if first_of_ties:
            values, columns = first_of_largest(offered, count)
        else:
            values, columns = offered.topk(count, dim=1)
        return NewItems(None, values, columns + offset)

    owner, item, values = nearer
    return pad_items(owner, item + offset, values, nearness.shape[0])


def pad_items(owner: Tensor, item: Tensor, values: Tensor, num_lists: int) -> NewItems | None:
    """Return the new items of every list that has any, in the columns of a padded matrix.

    Args:
        owner: List of each item, ascending.
        item: The items.
        values: Their nearness.
        num_lists: Number of lists.
    """
    counts = torch.bincount(owner, minlength=num_lists)
    lists = torch.nonzero(counts).flatten()
    if lists.numel() == 0:
        return None

    slot = torch.cumsum(counts > 0, 0)[owner] - 1
    num_before = torch.cumsum(counts, 0) - counts
    position = torch.arange(owner.numel(), device=owner.device) - num_before[owner]
    shape = lists.numel(), int(counts.max())
    new_nearness = torch.full(shape, -torch.inf, dtype=values.dtype, device=values.device)
    new_nearness[slot, position] = values
    new_index = torch.zeros(shape, dtype=torch.int64, device=values.device)
    new_index[slot, position] = item
    return NewItems(lists, new_nearness, new_index)


def enter(nearness: Tensor, index: Tensor, new: NewItems, *, first_of_ties: bool) -> None:
    """Update lists of nearest items with what :func:`find_nearer` has found, in place."""
    if new.lists is None:
        _merge(nearness, index, new.nearness, new.items, first_of_ties)
        return

    chosen_nearness, chosen_index = nearness[new.lists], index[new.lists]
    _merge(chosen_nearness, chosen_index, new.nearness, new.items, first_of_ties)
    nearness[new.lists] = chosen_nearness
    index[new.lists] = chosen_index


def _below_the_nearest(tile: Tensor, count: int, by_row: bool) -> Tensor | None:
    """Return a value (lists, 1) that at least ``count`` items of each list are above.

    So many groups of items have their largest value above it. ``None`` where groups do not pay, or
    hold too few items that may enter.
    """
    num_items = tile.shape[1] if by_row else tile.shape[0]
    group = min(_GROUP, num_items // max(1, _GROUPS_PER_ITEM * count))
    if tile.device.type != "cpu" or tile.numel() < _LEAST_GROUPED or group < _LEAST_GROUP:
        return None

    # items far apart in a group: whole rows of numbers are compared at once
    num_groups = num_items // group
    if by_row:
        largest = tile[:, : group * num_groups].view(len(tile), group, num_groups).amax(dim=1)
    else:
        columns = tile.shape[1]
        largest = tile[: group * num_groups].view(group, num_groups, columns).amax(dim=0).T

    lowest = largest.topk(count, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    if bool(torch.isinf(lowest).any()):
        return None
    return torch.nextafter(lowest, torch.full_like(lowest, -torch.inf))


class _Nearer(NamedTuple):
    """Values of a tile that are nearer than the last item of their list.

    Attributes:
        owner: List of each, ascending.
        item: Number of the item in the tile, ascending within a list.
        value: Its nearness.
    """

    owner: Tensor
    item: Tensor
    value: Tensor


def _nearer_than_last(tile: Tensor, last: Tensor, by_row: bool) -> _Nearer:
    """Find the values of a tile that are above the last one of their list.

    Most groups of items have none: their largest values show it, and take a fraction of the time
    that it takes to look at all values.
    """
    rows, columns = tile.shape
    num_items = columns if by_row else rows
    num_groups = num_items // _GROUP
    if tile.numel() < _LEAST_GROUPED or num_groups == 0:
        return _compare_all(tile, last, by_row)

    # Groups of each list: (lists, groups), and the items of every group in the last dimension.
    num_grouped = num_groups * _GROUP
    if by_row:
        groups = tile[:, :num_grouped].view(rows, num_groups, _GROUP)
        has_nearer = groups.amax(dim=2) > last
    else:
        of_columns = tile[:num_grouped].view(num_groups, _GROUP, columns)
        has_nearer = last < of_columns.amax(dim=1).T
        groups = of_columns.permute(2, 0, 1)

    owner, group = torch.nonzero(has_nearer, as_tuple=True)
    if owner.numel() > has_nearer.numel() // 4:
        return _compare_all(tile, last, by_row)

    candidates = groups[owner, group]
    hit, place = torch.nonzero(candidates > last[owner], as_tuple=True)
    nearer = _Nearer(owner[hit], group[hit] * _GROUP + place, candidates[hit, place])
    if num_grouped == num_items:
        return nearer

    rest = _compare_all(tile[:, num_grouped:] if by_row else tile[num_grouped:], last, by_row)
    owner, order = torch.sort(torch.cat([nearer.owner, rest.owner]), stable=True)
    item = torch.cat([nearer.item, rest.item + num_grouped])
    return _Nearer(owner, item[order], torch.cat([nearer.value, rest.value])[order])


def _compare_all(tile: Tensor, last: Tensor, by_row: bool) -> _Nearer:
    """Look at all values of a tile."""
    flat = flat_nonzero(tile, last if by_row else last.T, strict=True)
    row = torch.div(flat, tile.shape[1], rounding_mode="floor")
    column = flat % tile.shape[1]
    values = tile[row, column]
    if by_row:
        return _Nearer(row, column, values)

    owner, order = torch.sort(column, stable=True)
    return _Nearer(owner, row[order], values[order])


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
