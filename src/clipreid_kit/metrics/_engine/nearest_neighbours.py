"""Nearest neighbours of every row, exact by a stated rule, without the matrix of all distances.

The neighbours of a row are the other rows by exact similarity, the lower index first among equals.
A float32 matrix product, tile by tile, decides almost every row; rows where its error bound leaves
a boundary open are scored again exactly. So neighbours do not depend on BLAS, threads, tile size or
device.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.nearest_in_triangle import COLUMNS, ROWS, nearest_in_triangle
from clipreid_kit._similarity.nearest_lists import flat_nonzero
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@torch.no_grad()
def nearest_others(
    space: SimilaritySpace,
    count: int,
    prefixes: Sequence[int] = (),
    *,
    keep: tuple[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the ``count`` nearest other rows of every row, and the nearness of the farthest one.

    Only one triangle of the symmetric matrix is computed; every tile is offered to its rows and to
    its columns.

    Args:
        space: N rows.
        count: 1 to N - 1.
        prefixes: Lengths of shorter lists that have to be right, too, as sets; numbers beyond
            ``count`` are ignored.
        keep: A number Q and a matrix (Q, N - Q), into which the nearness of the first Q rows to all
            further rows is written.

    Returns:
        Neighbours (N, count) int64, and for each row the least nearness (N,), float32.
    """
    total = len(space)
    # one neighbour more than asked for shows whether the last one is certain
    kept = min(count + 1, total - 1)
    device = space.rows.device
    least = torch.full((total,), torch.inf, device=device)

    def visit(tile: Tensor, top: int, left: int) -> None:
        if keep is not None:
            _write_kept(tile, top, left, *keep)

        rows = least[top : top + tile.shape[0]]
        torch.minimum(rows, tile.amin(dim=1), out=rows)
        columns = least[left : left + tile.shape[1]]
        torch.minimum(columns, tile.amin(dim=0), out=columns)

    nearness, index = nearest_in_triangle(space.nearness, total, kept, device, visit=visit)

    whole = slice(0, total)
    boundaries = (*(length for length in prefixes if length < count), count)
    index = _settle(space, whole, whole, nearness, index, boundaries, exclude_self=True)
    return index[:, :count], least


@torch.no_grad()
def nearest_between(space: SimilaritySpace, rows: slice, columns: slice, count: int) -> Tensor:
    """Find the ``count`` nearest columns of every row, as indices into the space.

    Args:
        space: N rows.
        rows: Range of the rows.
        columns: Range of the columns, disjoint from that of the rows.
        count: 1 to the number of columns.
    """
    width = columns.stop - columns.start
    kept = min(count + 1, width)
    step = max(1, ROWS * COLUMNS // width)

    found = []
    for start in range(rows.start, rows.stop, step):
        part = slice(start, min(start + step, rows.stop))
        nearness, index = space.nearness(part, columns).topk(kept, dim=1)
        index = index + columns.start
        found.append(_settle(space, part, columns, nearness, index, (count,), exclude_self=False))
    return torch.cat(found)[:, :count]


def _write_kept(tile: Tensor, top: int, left: int, num_queries: int, out: Tensor) -> None:
    """Write the part of a tile that compares the first Q rows with all further rows."""
    num_rows = min(tile.shape[0], num_queries - top)
    num_skipped = max(0, num_queries - left)
    if num_rows > 0 and num_skipped < tile.shape[1]:
        first = left + num_skipped - num_queries
        columns = slice(first, first + tile.shape[1] - num_skipped)
        out[top : top + num_rows, columns] = tile[:num_rows, num_skipped:]


def _settle(
    space: SimilaritySpace,
    rows: slice,
    columns: slice,
    nearness: Tensor,
    index: Tensor,
    boundaries: Sequence[int],
    *,
    exclude_self: bool,
) -> Tensor:
    """Score rows again where the items on both sides of a boundary are closer than the error.

    Args:
        space: All rows.
        rows: Range of the rows that have lists.
        columns: Range of the items.
        nearness: Fast nearness of the items of each list, descending.
        index: The items.
        boundaries: Lengths at which lists have to be right; the last one is that of the whole list.
        exclude_self: Whether rows and columns are the same, and no row is in its own list.

    Returns:
        ``index``, with the lists of these rows replaced.
    """
    error = space.error[rows]
    width = columns.stop - columns.start
    count, num_available = boundaries[-1], width - exclude_self
    is_open = torch.zeros(error.shape, dtype=torch.bool, device=error.device)
    for boundary in boundaries:
        if 0 < boundary < num_available:
            gap = nearness[:, boundary - 1].double() - nearness[:, boundary].double()
            is_open |= gap <= 2 * error

    open_rows = torch.nonzero(is_open).flatten()
    if open_rows.numel() == 0:
        return index

    lowest = nearness[:, count - 1].double() - 2 * error
    step = max(1, ROWS * COLUMNS // width)
    num_earlier_copies: IntArray | None = None
    for part in torch.split(open_rows, step):
        tile = space.nearness(part + rows.start, columns)
        if exclude_self:
            tile[torch.arange(len(part), device=tile.device), part] = -torch.inf

        threshold = torch.nextafter(
            lowest[part].float(), torch.tensor(-torch.inf, device=tile.device)
        )
        flat = flat_nonzero(tile, threshold[:, None], strict=False)
        row = torch.div(flat, width, rounding_mode="floor").cpu().numpy()
        column = (flat % width + columns.start).cpu().numpy()

        # of many equal rows only the first few can be among the neighbours
        if len(row) > 64 * count * len(part):
            if num_earlier_copies is None:
                num_earlier_copies = _count_earlier_copies(space.groups(columns))
            is_early = num_earlier_copies[column - columns.start] <= count
            row, column = row[is_early], column[is_early]

        row_in_space = part.cpu().numpy() + rows.start
        similarities = space.exact(row_in_space[row], column)
        nearest = _nearest_of_each(row, column, similarities, len(part), count)
        index[part, :count] = torch.from_numpy(nearest).to(index.device)

    return index


def _nearest_of_each(
    row: IntArray, column: IntArray, similarities: FloatArray, num_rows: int, count: int
) -> IntArray:
    """Return the nearest columns of each row (num_rows, count), the lower one first among equals.

    The pairs are in the order of rows and, within a row, of columns. Each row has at least
    ``count`` pairs.
    """
    begin = np.searchsorted(row, np.arange(num_rows))
    place = np.arange(len(row)) - begin[row]

    table = np.full((num_rows, int(place.max()) + 1), -np.inf)
    table[row, place] = similarities
    order = torch.from_numpy(table).sort(dim=1, descending=True, stable=True).indices
    nearest: IntArray = column[begin[:, None] + order[:, :count].numpy()]
    return nearest


def _count_earlier_copies(groups: IntArray) -> IntArray:
    """Count for each item the items before it that have the same number."""
    order = np.argsort(groups, kind="stable")
    ascending = groups[order]
    num_earlier = np.empty(len(groups), dtype=np.int64)
    first = np.searchsorted(ascending, ascending, side="left")
    num_earlier[order] = np.arange(len(groups)) - first
    return num_earlier
