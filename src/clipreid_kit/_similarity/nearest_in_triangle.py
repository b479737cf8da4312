"""The nearest other rows of every row, from one triangle of the matrix of all similarities."""

from collections.abc import Callable

import torch
from torch import Tensor

from clipreid_kit._similarity.nearest_lists import offer

ROWS, COLUMNS = 512, 4096  # of a tile: 8 MB

# Returns the nearness of a range of rows to a range of rows, in a buffer.
Product = Callable[[slice, slice, Tensor], Tensor]

# Called with each tile, its first row and its first column, before a row is hidden from itself.
Visitor = Callable[[Tensor, int, int], None]


def nearest_in_triangle(
    product: Product,
    total: int,
    count: int,
    device: torch.device,
    *,
    visit: Visitor | None = None,
    first_of_ties: bool = False,
) -> tuple[Tensor, Tensor]:
    """Find the nearest other rows of every row, each product computed once for both of its rows.

    Args:
        product: Returns the tile of some rows and some columns, float32.
        total: Number of rows, N >= 1.
        count: Number of others, 0 to N - 1.
        device: Device of the tiles.
        visit: Called with every tile.
        first_of_ties: Whether of equally near rows the first enter, and come first; else any.

    Returns:
        Nearness of the nearest others (N, count), descending, and their numbers, int64.
    """
    nearness = torch.full((total, count), -torch.inf, dtype=torch.float32, device=device)
    index = torch.zeros((total, count), dtype=torch.int64, device=device)
    buffer = torch.empty(min(ROWS, total) * min(COLUMNS, total), dtype=torch.float32, device=device)
    if count == 0 and visit is None:
        return nearness, index

    for top in range(0, total, ROWS):
        bottom = min(top + ROWS, total)
        for left in range(top, total, COLUMNS):
            right = min(left + COLUMNS, total)
            tile = product(slice(top, bottom), slice(left, right), buffer)
            if visit is not None:
                visit(tile, top, left)

            if left == top:
                tile.diagonal().fill_(-torch.inf)  # a row is no neighbour of itself
            offer(
                nearness[top:bottom],
                index[top:bottom],
                tile,
                left,
                by_row=True,
                empty=top == left == 0,
                first_of_ties=first_of_ties,
            )

            # The same values from below the diagonal, where the rows of this tile are items.
            if right > bottom:
                first = max(left, bottom)
                offer(
                    nearness[first:right],
                    index[first:right],
                    tile[:, first - left :],
                    top,
                    by_row=False,
                    empty=top == 0,
                    first_of_ties=first_of_ties,
                )

    return nearness, index
