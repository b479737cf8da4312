"""Lists of the nearest rows of many queries at once, by products in float32 or float64."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import inverse_norms
from clipreid_kit._similarity.nearest_lists import offer
from clipreid_kit._similarity.rescore import float64_error_bound
from clipreid_kit.retrieval.exact.device_rows import BLOCK_ROWS, DeviceRows
from clipreid_kit.retrieval.exact.float32_block import multiply_float32
from clipreid_kit.retrieval.exact.gallery_blocks import GalleryRows, LoadedBlock

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
        floor: (Q,), no other row has a larger exact similarity; minus infinity if there is none.
    """

    values: FloatArray
    rows: IntArray
    error: float
    floor: FloatArray


def product_lists(
    queries: Tensor,
    norms: Tensor,
    gallery: GalleryRows,
    kept: int,
    dtype: torch.dtype,
    on_device: DeviceRows | None = None,
) -> ProductLists:
    """Multiply queries with all rows, block by block, and keep the nearest rows of each.

    Args:
        queries: (Q, D).
        norms: (Q,), their norms, float64.
        gallery: At least ``kept`` rows that may be found.
        kept: Length of the lists.
        dtype: float32, or float64 for queries that float32 leaves open.
        on_device: Where the rows are multiplied; ``None`` for where they are read.
    """
    num_queries = len(queries)
    width = min(_WIDEST, max(1, _BLOCK // num_queries))
    device = queries.device
    if on_device is not None:
        width, device = BLOCK_ROWS, on_device.device
        queries, norms = queries.to(device), norms.to(device)

    nearness = torch.full((num_queries, kept), -torch.inf, dtype=dtype, device=device)
    index = torch.zeros((num_queries, kept), dtype=torch.int64, device=device)
    error = 0.0
    reference = gallery.reference if dtype == torch.float32 else 0.0

    # rows that may be found are numbered through: ``offer`` counts columns
    size = num_queries * min(width, gallery.num_rows)
    buffer = torch.empty(size, dtype=dtype, device=device)
    offset = 0
    for block in gallery.blocks(width):
        loaded = block.load() if on_device is None else on_device.load(block)
        out = buffer[: num_queries * block.num_rows].view(num_queries, block.num_rows)
        if dtype == torch.float32:
            block_error = multiply_float32(queries, norms, loaded, reference, out)
        else:
            block_error = _multiply_float64(queries, norms, loaded, out)
        error = max(error, block_error)
        offer(nearness, index, out, offset, by_row=True, empty=offset == 0)
        offset += block.num_rows

    rows = index.cpu().numpy()
    if gallery.allowed is not None:
        rows = np.flatnonzero(gallery.allowed)[rows]
    values = nearness.double().cpu().numpy() + reference
    is_complete = kept == gallery.num_allowed
    floor = np.full(num_queries, -np.inf) if is_complete else values[:, -1] + error
    return ProductLists(values, rows, error, floor)


def _multiply_float64(queries: Tensor, norms: Tensor, block: LoadedBlock, out: Tensor) -> float:
    """Write similarities of queries with a block in float64, and return their error."""
    torch.mm(queries.double(), block.vectors.double().T, out=out)
    out.mul_(inverse_norms(block.norms)).mul_(inverse_norms(norms)[:, None])
    return float64_error_bound(queries.shape[1])
