"""Nearest neighbours of every row, exact by a stated rule, without the matrix of all distances.

The neighbours of a row are the other rows by exact similarity, the lower index first among equals.
A float32 matrix product, tile by tile, decides almost every row; of many rows, a product of 8-bit
codes finds the few pairs that are multiplied in float32. Rows where the error bound leaves a
boundary open are scored again exactly. So neighbours do not depend on BLAS, threads, tile size or
device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from clipreid_kit._similarity.nearest_by_codes import codes_are_exact, nearest_by_codes
from clipreid_kit._similarity.nearest_in_triangle import COLUMNS, ROWS, nearest_in_triangle
from clipreid_kit._threads import OwnThreads, default_threads, own_threads
from clipreid_kit.metrics._engine.settle_lists import FastLists, settle_lists
from clipreid_kit.metrics._engine.similarity_space import SimilaritySpace

CODES_PAY_FROM = 24_000  # rows from which on codes are faster than a float32 product
_DIAGONAL = 128  # rows of a product of which only the diagonal is used
_LONGEST_BY_CODES = 128  # neighbours for which the lists of a block are surely full
# Neighbours beyond those asked for: the first shows whether the last one is certain; with the
# others, a list mostly holds all rows that may be nearer than it.
_SPARE = 8


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
    its columns. The way is chosen by the number of rows, and changes no neighbour.

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
    boundaries = (*(length for length in prefixes if length < count), count)
    if keep is None and _do_codes_pay(space, count):
        return _nearest_by_codes(space, boundaries)

    total = len(space)
    # one neighbour more than asked for shows whether the last one is certain
    kept = min(count + 1, total - 1)
    device = space.rows.device
    least = torch.full((total,), torch.inf, dtype=torch.float32, device=device)

    def visit(tile: Tensor, top: int, left: int) -> None:
        if keep is not None:
            _write_kept(tile, top, left, *keep)

        rows = least[top : top + tile.shape[0]]
        torch.minimum(rows, tile.amin(dim=1), out=rows)
        columns = least[left : left + tile.shape[1]]
        torch.minimum(columns, tile.amin(dim=0), out=columns)

    nearness, index = nearest_in_triangle(space.nearness, total, kept, device, visit=visit)

    whole = slice(0, total)
    with own_threads(1) as threads:
        settle_lists(space, FastLists(whole, whole, nearness, index), boundaries, threads)
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
    with own_threads(1) as threads:
        for start in range(rows.start, rows.stop, step):
            part = slice(start, min(start + step, rows.stop))
            nearness, index = space.nearness(part, columns).topk(kept, dim=1)
            lists = FastLists(part, columns, nearness, index + columns.start)
            settle_lists(space, lists, (count,), threads)
            found.append(lists.items[:, :count])
    return torch.cat(found)


def _do_codes_pay(space: SimilaritySpace, count: int) -> bool:
    """Return whether a product of codes is exact here, and faster than one in float32."""
    return (
        len(space) >= CODES_PAY_FROM
        and count <= _LONGEST_BY_CODES
        and space.holds_unit_rows
        and space.rows.device.type == "cpu"
        and codes_are_exact(space.rows.shape[1])
    )


def _nearest_by_codes(space: SimilaritySpace, boundaries: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return what :func:`nearest_others` returns, by products of codes."""
    count = boundaries[-1]
    with own_threads(default_threads()) as threads:
        found = nearest_by_codes(space.rows, count + _SPARE, threads)
        whole = slice(0, len(space))
        lists = FastLists(whole, whole, found.nearness, found.items)
        settle_lists(space, lists, boundaries, threads)
        least = _nearness_of(space, found.farthest, threads)
    return lists.items[:, :count], least


def _nearness_of(space: SimilaritySpace, others: Tensor, threads: OwnThreads) -> Tensor:
    """Return the nearness of each row to another one (N,), as a product of many rows gives it."""

    def multiply(start: int) -> Tensor:
        part = slice(start, min(start + _DIAGONAL, len(space)))
        return space.nearness(others[part], part).diagonal()

    return torch.cat(list(threads.map(multiply, range(0, len(space), _DIAGONAL))))


def _write_kept(tile: Tensor, top: int, left: int, num_queries: int, out: Tensor) -> None:
    """Write the part of a tile that compares the first Q rows with all further rows."""
    num_rows = min(tile.shape[0], num_queries - top)
    num_skipped = max(0, num_queries - left)
    if num_rows > 0 and num_skipped < tile.shape[1]:
        first = left + num_skipped - num_queries
        columns = slice(first, first + tile.shape[1] - num_skipped)
        out[top : top + num_rows, columns] = tile[:num_rows, num_skipped:]
