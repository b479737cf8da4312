"""Read the similarities of a range of queries, from a matrix or from a re-ranker."""

from functools import partial
from typing import Any

import numpy.typing as npt
from torch import Tensor

from clipreid_kit._checks import check_choice
from clipreid_kit.metrics._engine.given_similarity import RowReader
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker


def check_nearer(owner: str, similarity: object, nearer: str) -> None:
    """Require the name of an order, and the usual one for a re-ranker."""
    check_choice(owner, "nearer", nearer, ("larger", "smaller"))
    if nearer == "smaller" and isinstance(similarity, KReciprocalReranker):
        raise ValueError(f"{owner}: a re-ranker returns similarities; leave out nearer.")


def row_reader(similarity: Tensor | npt.NDArray[Any] | KReciprocalReranker) -> RowReader:
    """Return a function of (start, stop) that returns the similarities of these queries."""
    if isinstance(similarity, KReciprocalReranker):
        return similarity.similarity
    return partial(_slice_rows, similarity)


def _slice_rows(
    matrix: Tensor | npt.NDArray[Any], start: int, stop: int
) -> Tensor | npt.NDArray[Any]:
    return matrix[start:stop]
