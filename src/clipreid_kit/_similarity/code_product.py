"""Multiply codes with the whole numbers of many rows: the 8-bit product of oneDNN, by torch."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Float32Array = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

LARGEST = 127  # of a code, and of a query's whole numbers
OFFSET = 128  # codes are stored as unsigned bytes

_HALF = 64  # of a query's numbers: then two products with a code fit into 16 bits
_WIDEST = (1 << 24) // (_HALF * 2 * OFFSET)  # products that float32 holds exactly
_TRIED_ROWS = (1, 67, 1030)
_TRIED_QUERIES = (5, 64)


class Levels(NamedTuple):
    """Similarities in 8 bits: ``step * (level - zero)``; what is beyond the ends is at the ends.

    Attributes:
        unit: Similarity of the product 1.
        step: Similarity between two levels.
        zero: Level of the similarity 0; below 0 or above 255 if it is no level.
    """

    unit: float
    step: float
    zero: int


class CodeProduct:
    """The whole numbers of some queries, prepared for products with codes.

    Args:
        numbers: (Q, D), whole numbers, none larger than :func:`largest_number` of D.
    """

    def __init__(self, numbers: Float32Array) -> None:
        whole = torch.from_numpy(numbers).to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self._scales = torch.ones(len(whole), dtype=torch.float32, device="cpu")
        self._zeros = torch.zeros(len(whole), dtype=torch.int64, device="cpu")

    def __call__(self, codes: Codes) -> Tensor:
        """Return the products of codes (N, D) with all queries: (N, Q), float32, exact."""
        return self._multiply(codes, Levels(1.0, 1.0, 0), torch.float32)

    def levels(self, codes: Codes, levels: Levels) -> Tensor:
        """Return the products of codes (N, D) with all queries as levels: (N, Q), uint8."""
        return self._multiply(codes, levels, torch.uint8)

    def _multiply(self, codes: Codes, levels: Levels, dtype: torch.dtype) -> Tensor:
        products: Tensor = torch.ops.onednn.qlinear_pointwise(
            torch.from_numpy(codes),
            levels.unit,  # scale and zero of the codes
            OFFSET,
            self._packed,
            self._scales,
            self._zeros,
            None,  # bias
            levels.step,  # scale and zero of the result
            levels.zero,
            dtype,
            "none",  # no function after the product
            [],
            "",
        )
        return products


@lru_cache(maxsize=8)
def largest_number(dim: int) -> int:
    """Return the largest whole number of a query for which the installed product is exact.

    0 where it is not exact, or not fast. Tried once for each width, with random numbers and with
    the largest: processors without instructions for sums of 8-bit products add pairs of them in 16
    bits, which hold those of the numbers up to 64. This affects the time only.
    """
    is_fast = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    if not is_fast or dim > _WIDEST:
        return 0

    try:
        exact = (largest for largest in (LARGEST, _HALF) if _is_exact(dim, largest))
        return next(exact, 0)
    except (AttributeError, RuntimeError, TypeError):
        return 0  # a torch without this product, or with another form of it


def _is_exact(dim: int, largest: int) -> bool:
    """Compare products of several numbers of rows and queries with those in float64."""
    rng = np.random.default_rng(0)
    codes = rng.integers(OFFSET - LARGEST, OFFSET + LARGEST + 1, (max(_TRIED_ROWS), dim))
    codes[0] = OFFSET + LARGEST
    codes[1] = rng.integers(
        OFFSET, OFFSET + LARGEST + 1, dim
    )  # sums of all sizes up to the largest

    for num_queries in _TRIED_QUERIES:
        numbers = rng.integers(-largest, largest + 1, (num_queries, dim))
        numbers[0], numbers[1] = largest, -largest
        product = CodeProduct(numbers.astype(np.float32))
        expected = (codes - OFFSET).astype(np.float64) @ numbers.T.astype(np.float64)

        for num_rows in _TRIED_ROWS:
            found = product(codes[:num_rows].astype(np.uint8)).numpy()
            if not np.array_equal(found, expected[:num_rows]):
                return False
    return True
