"""Sparse k-reciprocal encoding: from lists of neighbours to weighted sets of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics._engine.similarity_space import Space

IntArray = npt.NDArray[np.int64]

_STEP = 1 << 13  # rows that are encoded at a time


class Sparse(NamedTuple):
    """Rows of (column, weight); row i is [begin[i]:begin[i + 1]], its columns ascending."""

    begin: Tensor
    column: Tensor
    weight: Tensor


def ranges(begin: Tensor, counts: Tensor) -> Tensor:
    """All of begin[0], begin[0] + 1, ... (counts[0] of them), then begin[1], ..."""
    ahead = torch.cumsum(counts, 0) - counts
    return torch.arange(int(counts.sum()), device=begin.device) + torch.repeat_interleave(
        begin - ahead, counts
    )


def reciprocal_weights(space: Space, lists: IntArray, largest: Tensor, k1: int) -> Sparse:
    """Weigh the expanded k-reciprocal neighbours of every row: eq. 3 and 7 of the paper, rows of sum 1.

    Args:
        space: N rows.
        lists: For each row itself and its neighbours, nearest first (N, K) with K > k1 or all rows.
        largest: For each row, what its distances are divided by.
        k1: Neighbours of a row.
    """
    total = len(space)
    wide = lists[:, : k1 + 1].astype(np.int32)
    narrow = lists[:, : round(k1 / 2) + 1].astype(np.int32)
    half = _reciprocal(narrow)
    half_size = (half >= 0).sum(axis=1)
    full = _reciprocal(wide)
    rows, columns = [], []
    for start in range(0, total, _STEP):
        part = slice(start, min(start + _STEP, total))
        keys = torch.sort(torch.from_numpy(_expanded(full, half, half_size, part, total))).values
        keys = torch.unique_consecutive(keys).numpy()
        rows.append(keys // total + start)
        columns.append(keys % total)
    row, column = np.concatenate(rows), np.concatenate(columns)
    away = space.distances(row, column).cpu().div_(largest.cpu()[torch.from_numpy(row)])
    away[torch.from_numpy(row == column)] = (
        0.0  # also for a zero row, which has no cosine with itself
    )
    weight = away.neg_().exp_()
    counts = torch.from_numpy(np.bincount(row, minlength=total))
    sums = torch.zeros(total).scatter_add_(0, torch.from_numpy(row), weight)
    weight /= torch.repeat_interleave(sums, counts)
    return Sparse(_begin(counts), torch.from_numpy(column), weight)


def averaged(weights: Sparse, lists: IntArray) -> Sparse:
    """Average for each row the weights of the rows in its list: eq. 11, local query expansion."""
    total, size = lists.shape
    if size == 1:
        return weights
    counts, columns, values = [], [], []
    for start in range(0, total, _STEP):
        near = torch.from_numpy(lists[start : start + _STEP].reshape(-1))
        lengths = weights.begin[near + 1] - weights.begin[near]
        entries = ranges(weights.begin[near], lengths)
        row = torch.repeat_interleave(torch.arange(len(near)) // size, lengths)
        keys, order = torch.sort(row * total + weights.column[entries], stable=True)
        keys, group = torch.unique_consecutive(keys, return_inverse=True)
        value = torch.zeros(len(keys)).scatter_add_(0, group, weights.weight[entries[order]])
        counts.append(
            torch.bincount(
                torch.div(keys, total, rounding_mode="floor"), minlength=len(near) // size
            )
        )
        columns.append(keys % total)
        values.append(value.div_(size))
    return Sparse(_begin(torch.cat(counts)), torch.cat(columns), torch.cat(values))


def transposed(weights: Sparse, first: int, num_columns: int) -> Sparse:
    """For each column the rows from ``first`` on that have it, numbered from 0, with their weights."""
    begin = weights.begin[first:]
    row = torch.repeat_interleave(torch.arange(len(begin) - 1), begin[1:] - begin[:-1])
    column, order = torch.sort(weights.column[begin[0] :], stable=True)
    counts = torch.bincount(column, minlength=num_columns)
    return Sparse(_begin(counts), row[order], weights.weight[begin[0] :][order])


def _begin(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])


def _reciprocal(lists: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Eq. 2: the members of each list that have the row in theirs; -1 in the place of the others."""
    out = np.empty_like(lists)
    for start in range(0, len(lists), _STEP):
        part = lists[start : start + _STEP]
        own = np.arange(start, start + len(part), dtype=np.int32)
        for place in range(part.shape[1]):
            mutual = (lists[part[:, place]] == own[:, None]).any(axis=1)
            out[start : start + _STEP, place] = np.where(mutual, part[:, place], -1)
    return out


def _expanded(
    full: npt.NDArray[np.int32],
    half: npt.NDArray[np.int32],
    half_size: IntArray,
    part: slice,
    total: int,
) -> IntArray:
    """Eq. 3 for a part of the rows, as keys (row in the part * N + column); some come more than once."""
    own = full[part]
    row, place = np.nonzero(own >= 0)
    candidate = own[row, place]
    members = np.ascontiguousarray(
        half[candidate].T
    )  # pairs last: the comparisons below run over long rows
    of_row = np.ascontiguousarray(own.T)[:, row]
    shared = np.zeros(members.shape, dtype=bool)
    for other in of_row:
        shared |= members == other
    shared &= members >= 0
    taken = 3 * shared.sum(axis=0) > 2 * half_size[candidate]
    added = members[:, taken]
    keys = row[taken] * total + added
    return np.concatenate([row * total + candidate, keys[added >= 0]])
