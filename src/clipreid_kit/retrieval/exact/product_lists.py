"""Lists of the nearest rows of many queries at once, by products in float32 or float64."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.float32_pass import inverse_norms
from clipreid_kit._similarity.nearest_lists import offer
from clipreid_kit._similarity.rescore import float64_error_bound
from clipreid_kit._threads import default_threads, own_threads
from clipreid_kit.retrieval.exact.device_rows import BLOCK_ROWS, DeviceRows
from clipreid_kit.retrieval.exact.float32_block import multiply_float32
from clipreid_kit.retrieval.exact.gallery_blocks import Block, GalleryRows, LoadedBlock

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_BLOCK = 1 << 22  # similarities of a block: 16 MB
_WIDEST = 1 << 15  # rows of a block
_LONG = 1 << 22  # multiplications that take longer than to start threads for them


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


class _Product(NamedTuple):
    """Queries, and how they are multiplied with a block."""

    queries: Tensor
    norms: Tensor
    dtype: torch.dtype
    reference: float
    on_device: DeviceRows | None

    def write(self, block: Block, out: Tensor) -> float:
        """Write fast similarities with a block, less the reference, and return their error."""
        loaded = block.load() if self.on_device is None else self.on_device.load(block)
        if self.dtype == torch.float32:
            return multiply_float32(self.queries, self.norms, loaded, self.reference, out)
        return _multiply_float64(self.queries, self.norms, loaded, out)


class _Nearest(NamedTuple):
    """Lists (Q, K) of the nearest rows, and the error of their values."""

    values: Tensor
    rows: Tensor
    error: float


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
    num_threads, width = _threads_and_width(queries, gallery)
    if on_device is not None:
        num_threads, width = 1, BLOCK_ROWS
        queries, norms = queries.to(on_device.device), norms.to(on_device.device)

    # rows that may be found are numbered through: ``offer`` counts columns
    num_before = 0
    numbered: list[tuple[int, Block]] = []
    for block in gallery.blocks(width):
        numbered.append((num_before, block))
        num_before += block.num_rows
    num_shares = min(num_threads, len(numbered))
    shares = [numbered[share::num_threads] for share in range(num_shares)]

    reference = gallery.reference if dtype == torch.float32 else 0.0
    product = _Product(queries, norms, dtype, reference, on_device)
    with own_threads(len(shares)) as threads:
        found = list(threads.map(lambda share: _nearest_of(product, share, kept), shares))

    all_values = torch.cat([own.values for own in found], dim=1)
    all_rows = torch.cat([own.rows for own in found], dim=1)
    values, places = all_values.topk(kept, dim=1)
    rows = all_rows.gather(1, places).cpu().numpy()
    if gallery.allowed is not None:
        rows = np.flatnonzero(gallery.allowed)[rows]

    error = max(own.error for own in found)
    similarities = values.double().cpu().numpy() + reference
    is_complete = kept == gallery.num_allowed
    floor = np.full(len(queries), -np.inf) if is_complete else similarities[:, -1] + error
    return ProductLists(similarities, rows, error, floor)


def _threads_and_width(queries: Tensor, gallery: GalleryRows) -> tuple[int, int]:
    """Return how many threads multiply on the CPU, and how many rows at once."""
    width = min(_WIDEST, max(1, _BLOCK // len(queries)))
    is_long = gallery.num_rows * queries.numel() >= _LONG
    num_threads = default_threads() if is_long and len(queries) > 1 else 1
    return num_threads, min(width, -(-gallery.num_rows // num_threads))


def _nearest_of(product: _Product, share: Sequence[tuple[int, Block]], kept: int) -> _Nearest:
    """Multiply queries with some blocks, each with the number of its first row."""
    queries = product.queries
    shape = len(queries), kept
    values = torch.full(shape, -torch.inf, dtype=product.dtype, device=queries.device)
    rows = torch.zeros(shape, dtype=torch.int64, device=queries.device)

    largest = max(block.num_rows for _, block in share)
    buffer = torch.empty(len(queries) * largest, dtype=product.dtype, device=queries.device)
    error = 0.0
    for place, (offset, block) in enumerate(share):
        out = buffer[: len(queries) * block.num_rows].view(len(queries), block.num_rows)
        error = max(error, product.write(block, out))
        offer(values, rows, out, offset, by_row=True, empty=place == 0)
    return _Nearest(values, rows, error)


def _multiply_float64(queries: Tensor, norms: Tensor, block: LoadedBlock, out: Tensor) -> float:
    """Write similarities of queries with a block in float64, and return their error."""
    torch.mm(queries.double(), block.vectors.double().T, out=out)
    out.mul_(inverse_norms(block.norms)).mul_(inverse_norms(norms)[:, None])
    return float64_error_bound(queries.shape[1])
