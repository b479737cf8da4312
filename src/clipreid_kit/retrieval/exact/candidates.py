"""Score the candidates of a query exactly, and keep the nearest."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit._similarity.rescore import ExactScorer, float64_error_bound

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_CHUNK = 1 << 21  # elements of candidates that are scored at once


class Candidates(NamedTuple):
    """Rows that may be among the nearest, and the range of their similarities.

    Attributes:
        rows: (N,), distinct.
        low: (N,), lower bounds of the exact similarities.
        high: (N,), upper bounds.
    """

    rows: IntArray
    low: FloatArray
    high: FloatArray

    def at_least(self, similarity: float) -> "Candidates":
        """Return the candidates that may reach a similarity."""
        return self.chosen(self.high >= similarity)

    def chosen(self, which: npt.NDArray[np.bool_] | IntArray) -> "Candidates":
        """Return some of the candidates."""
        return Candidates(self.rows[which], self.low[which], self.high[which])

    def threshold(self, count: int) -> float:
        """Return a similarity that at least ``count`` candidates reach; minus infinity if fewer."""
        if len(self.rows) < count:
            return -np.inf
        return float(np.partition(self.low, -count)[-count])


def no_candidates() -> Candidates:
    """Return an empty set of candidates."""
    return Candidates(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))


def join_candidates(parts: list[Candidates]) -> Candidates:
    """Return the candidates of several sets with distinct rows."""
    if not parts:
        return no_candidates()

    rows, low, high = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Candidates(rows, low, high)


def refine(candidates: Candidates, query: Tensor, vectors: Tensor) -> Candidates:
    """Return the candidates with the bounds of float64 arithmetic.

    Args:
        candidates: N candidates.
        query: (D,).
        vectors: (N, D), their rows.
    """
    low, high = np.empty(len(vectors)), np.empty(len(vectors))
    for part in _chunks(vectors):
        values, errors = _float64_scores(query, vectors[part])
        low[part], high[part] = values - errors, values + errors

    return Candidates(candidates.rows, low, high)


def score_exactly(candidates: Candidates, query: Tensor, vectors: Tensor) -> Candidates:
    """Return the candidates with their exact similarities as both bounds.

    Args:
        candidates: N candidates.
        query: (D,).
        vectors: (N, D), their rows.
    """
    exact = exact_pairs(query[None], np.zeros(len(vectors), dtype=np.int64), vectors)
    return Candidates(candidates.rows, exact, exact)


def exact_pairs(queries: Tensor, query: IntArray, vectors: Tensor) -> FloatArray:
    """Return the exact similarity of each row with its query.

    Args:
        queries: (Q, D).
        query: (N,), the query of each row.
        vectors: (N, D).
    """
    exact = np.empty(len(vectors))
    for part in _chunks(vectors):
        scorer = ExactScorer(queries, vectors[part], "cosine")
        exact[part] = scorer(query[part], np.arange(len(query[part])))[0]
    return exact


def nearest_first(scored: Candidates, count: int) -> Candidates:
    """Return the nearest of exactly scored candidates; the lower row first among equals."""
    order = np.lexsort((scored.rows, -scored.low))[:count]
    return scored.chosen(order)


def _float64_scores(query: Tensor, vectors: Tensor) -> tuple[FloatArray, FloatArray]:
    """Return the similarities of rows in float64, and their errors; in few steps of NumPy."""
    one, rows = query.double().numpy(), vectors.double().numpy()
    products = np.einsum("nd,d->n", rows, one)
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows)) * np.linalg.norm(one)

    values = products / np.where(norms > 0, norms, 1.0)
    return values, np.full(len(rows), float64_error_bound(len(one)))


def _chunks(vectors: Tensor) -> list[slice]:
    step = max(1, _CHUNK // vectors.shape[1])
    return [slice(start, start + step) for start in range(0, len(vectors), step)]
