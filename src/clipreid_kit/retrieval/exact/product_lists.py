"""Lists of the nearest rows of many queries at once, by float32 products."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import Float32Tile
from clipreid_kit._similarity.nearest_lists import offer
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_BLOCK = 1 << 22  # similarities of a block: 16 MB
_WIDEST = 1 << 15  # rows of a block


class ProductLists(NamedTuple):
    """The nearest rows of each query by fast similarity.

    Attributes:
        values: (Q, K), fast similarities, descending.
        rows: (Q, K), rows over all sources.
        error: How far fast similarities may be from the exact ones.
        is_complete: Whether the lists hold all rows that may be found.
    """

    values: FloatArray
    rows: IntArray
    error: float
    is_complete: bool


def product_lists(queries: Tensor, norms: Tensor, gallery: GalleryRows, kept: int) -> ProductLists:
    """Multiply queries with all rows, block by block, and keep the nearest rows of each.

    Args:
        queries: (Q, D).
        norms: (Q,), their norms, float64.
        gallery: At least ``kept`` rows that may be found.
        kept: Length of the lists.
    """
    num_queries = len(queries)
    width = min(_WIDEST, max(1, _BLOCK // num_queries))
    nearness = torch.full((num_queries, kept), -torch.inf)
    index = torch.zeros((num_queries, kept), dtype=torch.int64)
    error = 0.0

    # rows that may be found are numbered through: ``offer`` counts columns
    buffer = torch.empty(num_queries * min(width, gallery.num_rows))
    offset = 0
    for block in gallery.blocks(width):
        tile = Float32Tile(block.vectors(), block.norms(), "cosine", 1.0)
        out = buffer[: num_queries * block.num_rows].view(num_queries, block.num_rows)
        tile.multiply(queries, norms, out)

        error = max(error, tile.error)
        offer(nearness, index, out, offset, by_row=True, empty=offset == 0)
        offset += block.num_rows

    rows = index.numpy()
    if gallery.allowed is not None:
        rows = np.flatnonzero(gallery.allowed)[rows]
    values = nearness.numpy().astype(np.float64)
    return ProductLists(values, rows, error, kept == gallery.num_allowed)
