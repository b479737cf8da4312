"""Similarities by one bfloat16 matrix product: several times faster than float32 where the processor has it."""

import math
import time

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics._engine.candidate_pairs import INFINITY
from clipreid_kit.metrics._engine.embedding_rows import Rows
from clipreid_kit.metrics._engine.exact_similarity import double_chunks, row_chunk
from clipreid_kit.metrics._engine.float32_pass import accumulation, inverse, outward

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
_PROBE = (64, 1024)  # queries and gallery rows of the timing probe
_GAIN = 1.1  # how many times faster than float32 the product has to be, to be tried
_SURE = 1.5  # a whole pass in float32 takes longer than its product by this factor at least
_LARGE = 1 << 32  # multiplications from which on it is tried
_TRIALS, _TRIAL = 2, 64  # blocks of either kind that are timed, and their queries


class BFloat16Tile:
    """A tile of the gallery for products in bfloat16, cosine only.

    How far a row is from its bfloat16 numbers is known, so the bound is that of the data (Cauchy-Schwarz), not that of
    the worst case.

    Args:
        gallery: Rows of the tile, N >= 1.
        norms: Their norms, float64, 0 or between 1e-15 and 1e15.
    """

    dtype = torch.bfloat16

    def __init__(self, gallery: Tensor, norms: Tensor) -> None:
        self.gallery, away = _rounded(gallery, norms)
        self._away = float(away.max())
        self._errors = np.empty(0)

    def block(self, queries: Tensor, norms: Tensor, out: Tensor) -> None:
        """Write the fast values of the queries with the whole tile into ``out``."""
        rows, away = _rounded(queries, norms)
        with torch.autocast(rows.device.type, enabled=False):
            torch.mm(rows, self.gallery.T, out=out)
        lost = away.cpu().numpy().astype(np.float64)
        self._errors = (
            1.01 * (lost * (1 + self._away) + self._away) + 2 * accumulation(rows.shape[1]) + 1e-20
        )

    def windows(self, scores: FloatArray, query: IntArray) -> tuple[Float32Array, Float32Array]:
        """Fast values of items that may be as near as a score in float64: from, and below.

        The sum is rounded to bfloat16 at the end. Rounding keeps the order, so the edges are rounded likewise.
        """
        edges = outward(scores, self._errors[query])
        low, beyond = (torch.from_numpy(edge).bfloat16().float().numpy() for edge in edges)
        return low, np.nextafter(beyond, INFINITY)


def _rounded(rows: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """Rows divided by their norms, in bfloat16, and how far each is from what it stands for."""
    result = torch.empty(rows.shape, dtype=torch.bfloat16, device=rows.device)
    away = torch.empty(rows.shape[0], dtype=torch.float32, device=rows.device)
    factors = inverse(norms)
    buffer = torch.empty(
        min(row_chunk(rows), rows.shape[0]), rows.shape[1], dtype=torch.float32, device=rows.device
    )
    for part, values in double_chunks(rows):
        unit = buffer[: len(values)].copy_(values.mul_(factors[part, None]))
        result[part] = unit
        torch.linalg.vector_norm(unit.sub_(result[part]), dim=1, out=away[part])
    return result, away + 4 * 2.0**-24


def bfloat16_pays(queries: Rows, gallery: Rows, distance: str) -> float:
    """Whether to try bfloat16: float32 cosines of a large set, on a processor that is much faster with it.

    That is found out with a small product. It decides the time, never the result.

    Returns:
        Seconds for a pair of rows below which no pass in float32 could be as fast; 0 if bfloat16 is not to be tried.
    """
    dim = gallery.shape[1]
    work = len(queries) * len(gallery) * dim
    if (
        distance != "cosine"
        or gallery.device.type != "cpu"
        or gallery.dtype != torch.float32
        or work < _LARGE
    ):
        return 0.0
    left, right = (torch.full((n, dim), 1.0 / dim) for n in _PROBE)
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b, times = left.to(dtype), right.to(dtype), []
        for _ in range(5):
            began = time.perf_counter()
            torch.mm(a, b.T)
            times.append(time.perf_counter() - began)
        seconds.append(min(times))
    return _SURE * seconds[0] / math.prod(_PROBE) if seconds[0] > _GAIN * seconds[1] else 0.0


class Pace:
    """Which pass is the faster with these data, by the clock: bfloat16 loses where too much has to be scored again.

    Two small blocks in bfloat16 go first; if they were no faster than float32 could ever be, two in float32 follow.
    It decides the time, never the result.

    Args:
        allowance: From :func:`bfloat16_pays`.
    """

    def __init__(self, allowance: float) -> None:
        self._allowance = allowance
        self._taken: dict[bool, list[float]] = {True: [], False: []}
        self._chosen = None if allowance else False

    @property
    def low(self) -> bool:
        """Whether the next block is multiplied in bfloat16."""
        return len(self._taken[True]) < _TRIALS if self._chosen is None else self._chosen

    @property
    def settled(self) -> bool:
        """Whether the choice is made."""
        return self._chosen is not None

    def rows(self, usual: int) -> int:
        """Queries of the next block."""
        return usual if self._chosen is not None else min(usual, _TRIAL)

    def took(self, seconds: float, pairs: int) -> None:
        """Note how long the last block took."""
        if self._chosen is not None:
            return
        self._taken[self.low].append(seconds / pairs)
        best = [min(self._taken[low], default=math.inf) for low in (False, True)]
        if len(self._taken[True]) == _TRIALS and best[1] < self._allowance:
            self._chosen = True
        elif len(self._taken[False]) == _TRIALS:
            self._chosen = best[1] < best[0]
