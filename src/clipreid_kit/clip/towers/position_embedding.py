"""Two-dimensional resizing of position tables, decided by the shape of the grid."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, describe, fail

PositionResize = Literal["bicubic", "clip_reid"]


def resize_position_embedding(
    table: Float[Tensor, "t d"],
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    *,
    num_prefix: int = 1,
    method: PositionResize = "bicubic",
) -> Float[Tensor, "u d"]:
    """Resize a table of position embeddings from one grid of patches to another.

    Use it where an image tower gets another image size than it was trained at. The grids decide, not the
    number of tokens: 14 x 14 and 28 x 7 both have 196 patches, and the table still changes.

    Args:
        table: Prefix rows, then the grid row by row.
        old_grid: (rows, columns) that the table is for.
        new_grid: (rows, columns) that are wanted.
        num_prefix: Rows before the grid, such as that of the class token; they are kept as they are.
        method: ``bicubic``: bicubic with antialias, as open_clip and timm have it; ``clip_reid``: bilinear
            without antialias, as CLIP-ReID and TransReID have it, to compare with their numbers.

    Returns:
        The table for ``new_grid``, in the dtype of ``table``, interpolated in float32. The very same tensor
        where the grids agree.

    Raises:
        ValueError: If a grid has a side below 1, the table's rows are not ``num_prefix`` plus the old grid, or
            there is no such method.

    Example:
        >>> import torch
        >>> table = torch.tensor([[9.0], [1.0], [1.0], [3.0], [3.0]])  # a prefix row, then a 2 x 2 grid
        >>> resize_position_embedding(table, (2, 2), (2, 1)).flatten()
        tensor([9., 1., 3.])

    Note:
        Peers leave a table alone that has the wanted number of rows; here the grid decides, with either
        method.
    """
    owner = "resize_position_embedding"
    check_choice(owner, "method", method, ("bicubic", "clip_reid"))
    for name, grid in (("old_grid", old_grid), ("new_grid", new_grid)):
        if min(grid) < 1:
            raise fail(owner, f"{name} as (rows, columns), each at least 1", grid)
    if table.ndim != 2 or not table.is_floating_point():
        raise fail(owner, "table as a floating-point matrix (T, D)", describe(table))
    num_rows = num_prefix + old_grid[0] * old_grid[1]
    if num_prefix < 0 or table.shape[0] != num_rows:
        raise fail(
            owner,
            f"{num_rows} rows ({num_prefix} prefix rows and a grid of {old_grid[0]} x {old_grid[1]})",
            f"{table.shape[0]} rows",
            "Give the grid that the table was trained at.",
        )
    if tuple(old_grid) == tuple(new_grid):
        return table
    prefix, patches = table[:num_prefix], table[num_prefix:]
    image = patches.float().reshape(1, old_grid[0], old_grid[1], -1).permute(0, 3, 1, 2)
    mode, antialias = ("bicubic", True) if method == "bicubic" else ("bilinear", False)
    image = F.interpolate(
        image, size=tuple(new_grid), mode=mode, antialias=antialias, align_corners=False
    )
    resized = image.permute(0, 2, 3, 1).reshape(new_grid[0] * new_grid[1], -1).to(table.dtype)
    return torch.cat([prefix, resized])
