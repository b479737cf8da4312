"""Resize a table of position embeddings in two dimensions, from one grid of patches to another."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, describe, fail

PositionResize = Literal["bicubic", "clip_reid"]

_OWNER = "resize_position_embedding"


def resize_position_embedding(
    table: Float[Tensor, "t d"],
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    *,
    num_prefix: int = 1,
    method: PositionResize = "bicubic",
) -> Float[Tensor, "u d"]:
    """Resize a table of position embeddings from one grid of patches to another.

    Use it to run an image tower at another image size than it was trained at. The grids decide, not
    the number of tokens: 14 x 14 and 28 x 7 both have 196 patches, and the table still changes.

    Args:
        table: Prefix rows, then the grid row by row.
        old_grid: (rows, columns) that the table is for.
        new_grid: (rows, columns) to resize it to.
        num_prefix: Number of rows before the grid, such as that of the class token, at least 0;
            they are kept unchanged.
        method: ``bicubic``: bicubic with antialiasing, as in open_clip and timm. ``clip_reid``:
            bilinear without antialiasing, as in CLIP-ReID and TransReID, to reproduce their
            numbers.

    Returns:
        The table for ``new_grid``, in the dtype of ``table``, interpolated in float32. If the grids
        are equal, ``table`` itself.

    Raises:
        ValueError: If a grid has a side below 1, the number of rows is not ``num_prefix`` plus
            that of the old grid, or the method is unknown.

    Example:
        >>> import torch
        >>> table = torch.tensor([[9.0], [1.0], [1.0], [3.0], [3.0]])  # a prefix row, a 2 x 2 grid
        >>> resize_position_embedding(table, (2, 2), (2, 1)).flatten()
        tensor([9., 1., 3.])

    Note:
        Other libraries leave a table unchanged if it has the right number of rows; here the grid
        decides, with either method.
    """
    check_choice(_OWNER, "method", method, ("bicubic", "clip_reid"))
    check_integer(_OWNER, "num_prefix", num_prefix, 0)
    _check_grid("old_grid", old_grid)
    _check_grid("new_grid", new_grid)
    _check_table(table, old_grid, num_prefix)

    if tuple(old_grid) == tuple(new_grid):
        return table

    prefix, patches = table[:num_prefix], table[num_prefix:]
    image = patches.float().reshape(1, old_grid[0], old_grid[1], -1).permute(0, 3, 1, 2)

    antialias = method == "bicubic"
    mode = "bicubic" if method == "bicubic" else "bilinear"
    image = F.interpolate(
        image, size=tuple(new_grid), mode=mode, antialias=antialias, align_corners=False
    )

    resized = image.permute(0, 2, 3, 1).reshape(new_grid[0] * new_grid[1], -1)
    return torch.cat([prefix, resized.to(table.dtype)])


def _check_grid(name: str, grid: tuple[int, int]) -> None:
    if min(grid) < 1:
        raise fail(_OWNER, f"{name} as (rows, columns), each at least 1", grid)


def _check_table(table: Tensor, grid: tuple[int, int], num_prefix: int) -> None:
    if table.ndim != 2 or not table.is_floating_point():
        raise fail(_OWNER, "table as a floating-point matrix (T, D)", describe(table))

    num_rows = num_prefix + grid[0] * grid[1]
    if table.shape[0] != num_rows:
        raise fail(
            _OWNER,
            f"{num_rows} rows ({num_prefix} prefix rows and a grid of {grid[0]} x {grid[1]})",
            f"{table.shape[0]} rows",
            "Pass the grid that the table was trained at.",
        )
