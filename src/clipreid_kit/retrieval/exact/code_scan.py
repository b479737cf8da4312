"""Find the codes with the largest products with a query's whole numbers: one scan by faiss."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clipreid_kit._similarity.code_product import LARGEST, OFFSET, Codes

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

# products of larger widths are not exact in float32, which holds whole numbers up to 2^24
MAX_DIM = (1 << 24) // LARGEST**2


class LargestProducts(NamedTuple):
    """The largest products of a scan.

    Attributes:
        products: (K,), whole numbers in no particular order.
        rows: (K,), the row of each.
        floor: No other row has a larger product; minus infinity if there is no other row.
    """

    products: Float32Array
    rows: IntArray
    floor: float


def scan_codes(
    codes: Codes, numbers: Float32Array, count: int, positions: IntArray | None = None
) -> LargestProducts:
    """Return the largest products of codes with a query.

    Args:
        codes: (N, D), contiguous, D at most :data:`MAX_DIM`.
        numbers: (D,), whole numbers from -127 to 127.
        count: How many products to return; fewer if there are fewer rows.
        positions: The rows that may be found; ``None`` for all of them.
    """
    import faiss

    num_rows = len(codes) if positions is None else len(positions)
    selector = None
    if positions is not None:
        is_wanted = np.zeros(len(codes), dtype=bool)
        is_wanted[positions] = True
        bits = np.packbits(is_wanted, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(codes), faiss.swig_ptr(bits))

    kept = min(count, num_rows)
    products = np.full(kept, -np.inf, dtype=np.float32)
    rows = np.full(kept, -1, dtype=np.int64)

    quantizer = _quantizer(codes.shape[1])
    store_pairs, by_residual = True, False
    scanner = quantizer.select_InvertedListScanner(
        faiss.METRIC_INNER_PRODUCT, None, store_pairs, selector, by_residual
    )
    scanner.set_query(faiss.swig_ptr(numbers))
    scanner.set_list(0, 0.0)
    scanner.scan_codes(
        len(codes),
        faiss.swig_ptr(codes),
        None,
        faiss.swig_ptr(products),
        faiss.swig_ptr(rows),
        kept,
    )

    floor = float(products.min()) if kept < num_rows else -np.inf
    return LargestProducts(products, rows, floor)


@lru_cache(maxsize=8)
def scan_is_exact(dim: int) -> bool:
    """Return whether the installed faiss multiplies codes and whole numbers without rounding.

    Tried once for each width, with random numbers and with the largest: a faiss that rounds,
    saturates or reads the codes in another way is not used. This affects the time only.
    """
    if dim > MAX_DIM:
        return False

    rng = np.random.default_rng(0)
    codes = rng.integers(OFFSET - LARGEST, OFFSET + LARGEST + 1, (67, dim)).astype(np.uint8)
    codes[0], codes[1] = OFFSET + LARGEST, OFFSET - LARGEST
    queries = rng.integers(-LARGEST, LARGEST + 1, (3, dim)).astype(np.float32)
    queries[0] = LARGEST

    try:
        return all(_is_exact(codes, query) for query in queries)
    except (AttributeError, TypeError, ValueError):
        return False  # a faiss with other names


def _is_exact(codes: Codes, query: Float32Array) -> bool:
    """Compare scans of all rows, and of some, with products of integers."""
    expected = (codes.astype(np.int64) - OFFSET) @ query.astype(np.int64)
    every_row = np.arange(len(codes))
    for wanted in (every_row, every_row[1::3]):
        found = scan_codes(codes, query, len(codes), None if wanted is every_row else wanted)
        if not np.array_equal(np.sort(found.rows), wanted):
            return False
        if not np.array_equal(found.products, expected[found.rows]):
            return False
    return True


@lru_cache(maxsize=8)
def _quantizer(dim: int) -> "faiss.ScalarQuantizer":  # type: ignore[name-defined]  # noqa: F821
    import faiss

    return faiss.ScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit_direct_signed)
