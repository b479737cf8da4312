"""Similarities by one bfloat16 matrix product: several times faster where the CPU supports it."""

import math
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import float64_chunks, rows_per_chunk
from clipreid_kit._similarity.float32_pass import (
    INFINITY,
    inverse_norms,
    product_error_bound,
    round_outward,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_LARGE = 1 << 32  # multiplications from which on bfloat16 is tried
_PROBE = (64, 1024)  # queries and gallery rows of the product that is timed first
_MIN_SPEED_UP = 1.1  # of that product, for bfloat16 to be tried
_HOPELESS = 8  # a single product in bfloat16 that takes this many times as long ends the probe
_PASS_TIME = 1.5  # a whole pass in float32 takes longer than its product by at least this factor
_TRIALS = 2  # blocks that are timed in either type
_TRIAL_QUERIES = 64  # queries of such a block


class BFloat16Windows(NamedTuple):
    """What some queries' fast values in bfloat16 say about exact similarities.

    Attributes:
        errors: (Q,), how far the values may be from the exact ones before they are rounded.
    """

    errors: FloatArray

    def windows(
        self, similarities: FloatArray, query: IntArray
    ) -> tuple[Float32Array, Float32Array]:
        """Return the fast values that items as near as these float64 values may have.

        The sum is rounded to bfloat16 at the end. Rounding keeps the order, so the edges of the
        windows are rounded likewise.

        Args:
            similarities: Exact similarities.
            query: The query of each.

        Returns:
            The lowest value of each window, and the first value beyond it.
        """
        low, beyond = round_outward(similarities, self.errors[query])
        return _round_to_bfloat16(low), np.nextafter(_round_to_bfloat16(beyond), INFINITY)


class BFloat16Tile:
    """A tile of the gallery, prepared for products in bfloat16; cosine only.

    The distance of every row from its bfloat16 numbers is measured, so the error bound follows from
    the data (Cauchy-Schwarz) and not from the worst case.

    Args:
        gallery: Rows of the tile, N >= 1.
        norms: Their norms, float64, 0 or between 1e-15 and 1e15.
    """

    dtype = torch.bfloat16

    def __init__(self, gallery: Tensor, norms: Tensor) -> None:
        self.gallery, rounding = _round_unit_rows(gallery, norms)
        self._largest_rounding = float(rounding.max())

    def multiply(self, queries: Tensor, norms: Tensor, out: Tensor) -> BFloat16Windows:
        """Write the fast values of the queries with the whole tile into ``out``."""
        rows, rounding = _round_unit_rows(queries, norms)
        with torch.autocast(rows.device.type, enabled=False):
            torch.mm(rows, self.gallery.T, out=out)

        of_query = rounding.cpu().numpy().astype(np.float64)
        of_tile = self._largest_rounding
        return BFloat16Windows(
            1.01 * (of_query * (1 + of_tile) + of_tile)
            + 2 * product_error_bound(rows.shape[1])
            + 1e-20
        )


def _round_to_bfloat16(values: Float32Array) -> Float32Array:
    rounded: Float32Array = torch.from_numpy(values).bfloat16().float().numpy()
    return rounded


def _round_unit_rows(rows: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit rows in bfloat16, and how far rounding has moved each of them."""
    count, dim = rows.shape
    result = torch.empty(rows.shape, dtype=torch.bfloat16, device=rows.device)
    moved = torch.empty(count, dtype=torch.float32, device=rows.device)
    chunk = min(rows_per_chunk(rows), count)
    buffer = torch.empty(chunk, dim, dtype=torch.float32, device=rows.device)

    factors = inverse_norms(norms)
    for part, values in float64_chunks(rows):
        unit = buffer[: len(values)].copy_(values.mul_(factors[part, None]))
        result[part] = unit
        torch.linalg.vector_norm(unit.sub_(result[part]), dim=1, out=moved[part])

    return result, moved + 4 * 2.0**-24


def bfloat16_allowance(queries: EmbeddingRows, gallery: EmbeddingRows, distance: str) -> float:
    """Decide whether to try bfloat16, and how fast it has to be.

    It is tried for float32 cosines of a large set, if a small product is faster in it. This affects
    the time only, never the result.

    Returns:
        Seconds for a pair of rows below which no float32 pass could be as fast; 0 for no bfloat16.
    """
    dim = gallery.shape[1]
    is_large = len(queries) * len(gallery) * dim >= _LARGE
    is_float32_on_cpu = gallery.device.type == "cpu" and gallery.dtype == torch.float32
    if distance != "cosine" or not is_float32_on_cpu or not is_large:
        return 0.0

    in_float32 = _time_probe(dim, torch.float32)
    in_bfloat16 = _time_probe(dim, torch.bfloat16, _HOPELESS * in_float32)
    if in_float32 <= _MIN_SPEED_UP * in_bfloat16:
        return 0.0
    return _PASS_TIME * in_float32 / math.prod(_PROBE)


def _time_probe(dim: int, dtype: torch.dtype, limit: float = math.inf) -> float:
    """Return the seconds of a small product: the best of five, or the first beyond a limit."""
    left, right = (
        torch.full((count, dim), 1.0 / dim, dtype=dtype, device="cpu") for count in _PROBE
    )
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(left, right.T)
        times.append(time.perf_counter() - began)
        if times[-1] > limit:
            break
    return min(times)


class PassChoice:
    """Choose the faster pass for the data at hand by the clock.

    bfloat16 loses where too many pairs have to be scored again. Two small blocks in bfloat16 go
    first; if they were no faster than float32 could ever be, two in float32 follow. This affects
    the time only, never the result.

    Args:
        allowance: From :func:`bfloat16_allowance`.
    """

    def __init__(self, allowance: float) -> None:
        self._allowance = allowance
        self._seconds: dict[bool, list[float]] = {True: [], False: []}
        self._choice = None if allowance else False

    @property
    def use_bfloat16(self) -> bool:
        """Whether the next block is multiplied in bfloat16."""
        if self._choice is not None:
            return self._choice
        return len(self._seconds[True]) < _TRIALS

    @property
    def is_settled(self) -> bool:
        """Whether the choice is made."""
        return self._choice is not None

    def num_queries(self, usual: int) -> int:
        """Return the number of queries of the next block."""
        return usual if self._choice is not None else min(usual, _TRIAL_QUERIES)

    def record(self, seconds: float, num_pairs: int) -> None:
        """Record how long the last block took."""
        if self._choice is not None:
            return

        self._seconds[self.use_bfloat16].append(seconds / num_pairs)
        in_float32 = min(self._seconds[False], default=math.inf)
        in_bfloat16 = min(self._seconds[True], default=math.inf)
        if len(self._seconds[True]) == _TRIALS and in_bfloat16 < self._allowance:
            self._choice = True
        elif len(self._seconds[False]) == _TRIALS:
            self._choice = in_bfloat16 < in_float32
