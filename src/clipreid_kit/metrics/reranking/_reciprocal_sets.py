"""Sparse k-reciprocal encoding: from lists of neighbours to weighted sets of neighbours."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._threads import OwnThreads, default_threads, own_threads
from clipreid_kit.metrics._engine.nearest_neighbours import nearest_others
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace

IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

_STEP = 1 << 12  # rows that a thread encodes at a time
_LEAST_DIVIDED = 1 << 11  # rows from which on threads of its own pay
_ROUNDING = 2.0**-20  # a row whose largest distance is below this has equal rows only


class SparseRows(NamedTuple):
    """Sparse rows of weights.

    Attributes:
        begin: (N + 1,): row i is ``[begin[i]:begin[i + 1]]`` of columns and weights.
        column: Columns, ascending within a row.
        weight: Weights.
    """

    begin: Tensor
    column: Tensor
    weight: Tensor


def neighbour_sets(
    space: SimilaritySpace, k1: int, k2: int, *, keep: tuple[int, Tensor] | None = None
) -> tuple[SparseRows, Tensor]:
    """Find the neighbours of all rows, and weigh their sets; weights of a row sum to 1.

    Args:
        space: N rows.
        k1: Number of neighbours of a row, excluding itself; larger than N - 1 means all others.
        k2: Number of rows over which weights are averaged, including the row itself.
        keep: As for :func:`nearest_others`.

    Returns:
        The sets, and the largest distance of each row; infinity if all rows are equal to it.
    """
    total = len(space)
    count = min(max(k1, k2 - 1), total - 1)
    others, least = nearest_others(space, count, (round(k1 / 2), k1, k2 - 1), keep=keep)
    lists = np.concatenate([np.arange(total)[:, None], others.cpu().numpy()], axis=1)

    # equal rows have distance 0, not rounding divided by rounding
    largest = space.top - least
    largest = torch.where(largest > _ROUNDING, largest, torch.inf)

    # sums are rounded: their order must not depend on that of neighbours that are nearly as near
    first = np.sort(lists[:, :k2], axis=1)

    is_small = total < _LEAST_DIVIDED or space.rows.device.type != "cpu"
    with own_threads(1 if is_small else default_threads()) as threads:
        weights = reciprocal_weights(space, lists, largest, k1, threads)
        return average_over_lists(weights, first, threads), largest


def concatenate_ranges(begin: Tensor, counts: Tensor) -> Tensor:
    """Return begin[0], begin[0] + 1, ... (counts[0] numbers), then begin[1], ... and so on."""
    num_before = torch.cumsum(counts, 0) - counts
    shift = torch.repeat_interleave(begin - num_before, counts)
    return torch.arange(int(counts.sum()), device=begin.device) + shift


def reciprocal_weights(
    space: SimilaritySpace, lists: IntArray, largest: Tensor, k1: int, threads: OwnThreads
) -> SparseRows:
    """Weigh the expanded k-reciprocal neighbours of every row; weights of a row sum to 1.

    Equations 3 and 7 of the paper.

    Args:
        space: N rows.
        lists: For each row itself and its neighbours, nearest first (N, K) with K > k1 or all rows.
        largest: For each row, the distance that its distances are divided by.
        k1: Neighbours of a row.
        threads: Threads; each encodes some rows at a time.
    """
    total = len(space)
    wide = lists[:, : k1 + 1].astype(np.int32)
    narrow = lists[:, : round(k1 / 2) + 1].astype(np.int32)
    half = _mutual_members(narrow, threads)
    half_size = (half >= 0).sum(axis=1)
    full = _mutual_members(wide, threads)
    largest = largest.cpu()

    def weigh(part: slice) -> _Part:
        keys = torch.from_numpy(_expand(full, half, half_size, part, total))
        members = torch.unique_consecutive(torch.sort(keys).values).numpy()
        row, column = np.divmod(members, total)

        own = row + part.start
        distance = space.distances(own, column).cpu().div_(largest[torch.from_numpy(own)])
        # also for a zero row, which has no cosine with itself
        distance[torch.from_numpy(own == column)] = 0.0

        weight = distance.neg_().exp_()
        num_rows = part.stop - part.start
        counts = torch.from_numpy(np.bincount(row, minlength=num_rows))
        sums = torch.zeros(num_rows, dtype=torch.float32, device="cpu")
        sums.scatter_add_(0, torch.from_numpy(row), weight)
        weight /= torch.repeat_interleave(sums, counts)
        return _Part(counts, torch.from_numpy(column), weight)

    return _join(threads.map(weigh, _parts(total, threads)))


def average_over_lists(weights: SparseRows, lists: IntArray, threads: OwnThreads) -> SparseRows:
    """Average for each row the weights of the rows in its list: equation 11, local expansion."""
    total, size = lists.shape
    if size == 1:
        return weights

    def average(part: slice) -> _Part:
        near = torch.from_numpy(lists[part].reshape(-1))
        num_rows = len(near) // size
        lengths = weights.begin[near + 1] - weights.begin[near]
        entries = concatenate_ranges(weights.begin[near], lengths)
        row = torch.repeat_interleave(torch.arange(len(near), device="cpu") // size, lengths)

        # entries of one row and column are added up
        keys, order = torch.sort(row * total + weights.column[entries], stable=True)
        keys, group = torch.unique_consecutive(keys, return_inverse=True)
        value = torch.zeros(len(keys), dtype=torch.float32, device="cpu").scatter_add_(
            0, group, weights.weight[entries[order]]
        )

        row = torch.div(keys, total, rounding_mode="floor")
        counts = torch.bincount(row, minlength=num_rows)
        return _Part(counts, keys % total, value.div_(size))

    return _join(threads.map(average, _parts(total, threads)))


def transpose_rows(weights: SparseRows, first: int, num_columns: int) -> SparseRows:
    """Return for each column the rows from ``first`` on that have it, numbered from 0."""
    begin = weights.begin[first:]
    row = torch.repeat_interleave(
        torch.arange(len(begin) - 1, device="cpu"), begin[1:] - begin[:-1]
    )
    column, order = torch.sort(weights.column[begin[0] :], stable=True)
    counts = torch.bincount(column, minlength=num_columns)
    return SparseRows(_begin(counts), row[order], weights.weight[begin[0] :][order])


def select_rows(weights: SparseRows, rows: Tensor) -> SparseRows:
    """Return some of the rows, in their order."""
    counts = weights.begin[rows + 1] - weights.begin[rows]
    entries = concatenate_ranges(weights.begin[rows], counts)
    return SparseRows(_begin(counts), weights.column[entries], weights.weight[entries])


def bounded_ranges(
    weights: SparseRows, num_posted: Tensor, first: int, stop: int, *, rows: int, meetings: int
) -> Iterator[tuple[int, int]]:
    """Divide a range of the rows, so that :func:`meetings_of` each part take little memory.

    Args:
        weights: Sets of the rows.
        num_posted: For each column, the number of rows on the other side whose set it is in.
        first: First row of the range.
        stop: One past its last row.
        rows: Most rows of a part.
        meetings: Most pairs of weights that meet in a part; a single row may have more.
    """
    begin = weights.begin[first : stop + 1]
    met = num_posted[weights.column[begin[0] : begin[-1]]].cumsum(0)
    num_before = torch.cat([met.new_zeros(1), met])[begin - begin[0]].tolist()

    start = first
    while start < stop:
        last = min(start + rows, stop)
        end = start + 1
        while end < last and num_before[end + 1 - first] - num_before[start - first] <= meetings:
            end += 1
        yield start, end
        start = end


class Meetings(NamedTuple):
    """Pairs of queries and gallery rows with a common image; a pair comes once for each of these.

    Attributes:
        pair: Flat number of the pair in (queries, G).
        minimum: The smaller of both weights of the image.
    """

    pair: Tensor
    minimum: Tensor

    def sums(self, num_pairs: int) -> Tensor:
        """Return the sum of the minima of every pair, (num_pairs,)."""
        sums = torch.zeros(num_pairs, dtype=torch.float32, device=self.minimum.device)
        return sums.scatter_add_(0, self.pair, self.minimum)


def meetings_of(
    weights: SparseRows,
    postings: SparseRows,
    num_posted: Tensor,
    first: int,
    stop: int,
    num_gallery: int,
) -> Meetings:
    """Find the images that are in the set of a query and in that of a gallery row.

    Args:
        weights: Neighbour sets of the queries.
        postings: For each image, the gallery rows whose set it is in.
        num_posted: Number of these.
        first: First query.
        stop: One past the last query.
        num_gallery: Number of gallery rows.
    """
    entries = slice(int(weights.begin[first]), int(weights.begin[stop]))
    column = weights.column[entries]
    lengths = weights.begin[first + 1 : stop + 1] - weights.begin[first:stop]
    query = torch.repeat_interleave(torch.arange(stop - first, device=column.device), lengths)

    counts = num_posted[column]
    met = concatenate_ranges(postings.begin[column], counts)
    query_weight = torch.repeat_interleave(weights.weight[entries], counts)
    minimum = torch.minimum(query_weight, postings.weight[met])
    pair = torch.repeat_interleave(query * num_gallery, counts).add_(postings.column[met])
    return Meetings(pair, minimum)


class _Part(NamedTuple):
    """Some sparse rows, with the number of weights of each."""

    counts: Tensor
    column: Tensor
    weight: Tensor


def _parts(total: int, threads: OwnThreads) -> list[slice]:
    """Return ranges that cover all rows, at least one for each thread."""
    step = min(_STEP, -(-total // threads.count))
    return [slice(start, min(start + step, total)) for start in range(0, total, step)]


def _join(parts: Iterable[_Part]) -> SparseRows:
    """Return the rows of all parts."""
    counts, columns, weights = zip(*parts, strict=True)
    return SparseRows(_begin(torch.cat(counts)), torch.cat(columns), torch.cat(weights))


def _begin(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])


def _mutual_members(lists: Int32Array, threads: OwnThreads) -> Int32Array:
    """Keep the members of each list that have the row in their own list (equation 2).

    All other entries are -1.
    """
    out = np.empty_like(lists)

    def keep_mutual(rows: slice) -> None:
        part = lists[rows]
        own = np.arange(rows.start, rows.stop, dtype=np.int32)
        for position in range(part.shape[1]):
            members = part[:, position]
            is_mutual = (lists[members] == own[:, None]).any(axis=1)
            out[rows, position] = np.where(is_mutual, members, -1)

    deque(threads.map(keep_mutual, _parts(len(lists), threads)), maxlen=0)
    return out


def _expand(
    full: Int32Array, half: Int32Array, half_size: IntArray, part: slice, total: int
) -> IntArray:
    """Add to the set of each row the sets of members with which it has enough in common.

    Equation 3, for a part of the rows.

    Args:
        full: Mutual neighbours of every row among its k1 nearest; -1 for no member.
        half: Mutual neighbours of every row among its k1 / 2 nearest.
        half_size: Number of the latter.
        part: Range of the rows.
        total: Number of all rows.

    Returns:
        Keys (row in the part * N + column); some come more than once.
    """
    own = full[part]
    row, position = np.nonzero(own >= 0)
    neighbour = own[row, position]

    # pairs come last, so that the comparisons run along memory
    members = np.ascontiguousarray(half[neighbour].T)
    own_members = np.ascontiguousarray(own.T)[:, row]
    is_shared = np.zeros(members.shape, dtype=bool)
    for other in own_members:
        is_shared |= members == other
    is_shared &= members >= 0

    is_added = 3 * is_shared.sum(axis=0) > 2 * half_size[neighbour]
    added = members[:, is_added]
    keys = row[is_added] * total + added
    return np.concatenate([row * total + neighbour, keys[added >= 0]])
