"""Similarities of chosen pairs, more precise than those of the fast pass: in float64, and exact."""

import itertools
import warnings
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit.metrics._engine.exact_similarity import (
    Distance,
    pair_products,
    row_chunk,
    similarity,
    split_rows,
)
from clipreid_kit.metrics._engine.float32_pass import accumulation, inverse, scaled

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@runtime_checkable
class Scorer(Protocol):
    """Scores pairs, and says how far the scores may be from the exact ones."""

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Scores of query i with gallery row i of the lists, and their errors."""
        ...


class PreciseScorer:
    """Float64, in any order of operations.

    Args:
        queries: Rows of the queries.
        query_norms: Their norms.
        gallery: Rows of the gallery.
        gallery_norms: Their norms.
        distance: ``"cosine"`` or ``"euclidean"``.
    """

    def __init__(
        self,
        queries: Tensor,
        query_norms: Tensor,
        gallery: Tensor,
        gallery_norms: Tensor,
        distance: Distance,
    ) -> None:
        self.queries, self.gallery, self.distance = queries.double(), gallery, distance
        self.norms = query_norms.cpu().numpy(), gallery_norms.cpu().numpy()

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Scores and their errors; soonest where pairs ascend by query."""
        chosen = torch.from_numpy(rows).to(self.gallery.device)
        begin = np.flatnonzero(np.diff(query, prepend=-1, append=-1)).tolist()
        scores = torch.empty(len(rows), dtype=torch.float64, device=self.gallery.device)
        step = 4 * row_chunk(self.gallery)
        for first, last in itertools.pairwise(begin):
            q = self.queries[int(query[first])]
            for start in range(first, last, step):
                part = slice(start, min(start + step, last))
                g = self.gallery.index_select(0, chosen[part]).double()
                scores[part] = g @ q if self.distance == "cosine" else -(g - q).square_().sum(1)
        values: FloatArray = scores.cpu().numpy()
        of_query, of_gallery = self.norms[0][query], self.norms[1][rows]
        relative = (
            11 * self.queries.shape[1] + 32
        ) * 2.0**-53  # derivation in docs/design/evaluator.md
        if self.distance == "euclidean":
            return values, relative * (of_query + of_gallery) ** 2
        product = of_query * of_gallery
        return values / np.where(product > 0, product, 1.0), np.full(len(rows), relative)


class ExactScorer:
    """The exact similarity: errors are 0.

    Args:
        queries: Rows of the queries.
        gallery: Rows of the gallery.
        distance: ``"cosine"`` or ``"euclidean"``.
    """

    def __init__(self, queries: Tensor, gallery: Tensor, distance: Distance) -> None:
        self.queries, self.gallery, self.distance = queries, gallery, distance

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Scores and their errors."""
        device = self.gallery.device
        chosen, place = np.unique(query, return_inverse=True)
        of_queries = split_rows(self.queries[torch.from_numpy(chosen).to(device)], self.distance)
        scores = np.empty(len(rows))
        step = 8 * row_chunk(self.gallery)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            q = of_queries.take(torch.from_numpy(place[part]).to(device))
            g = split_rows(self.gallery[torch.from_numpy(rows[part]).to(device)], self.distance)
            scores[part] = similarity(pair_products(q, g), q, g, self.distance).cpu().numpy()
        return scores, np.zeros(len(rows))


class SingleScorer:
    """Float32, many pairs at once.

    Args:
        queries: Rows of the queries.
        query_norms: Their norms.
        gallery: Rows of the gallery.
        gallery_norms: Their norms, 0 or between 1e-15 and 1e15.
    """

    def __init__(
        self, queries: Tensor, query_norms: Tensor, gallery: Tensor, gallery_norms: Tensor
    ) -> None:
        self.queries, self.gallery = scaled(queries, inverse(query_norms)), gallery.float()
        self.factors = inverse(gallery_norms).cpu().numpy()

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Scores and their errors; pairs ascend by query."""
        begin = query.searchsorted(np.arange(len(self.queries) + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse tensors a beta
            wanted = torch.sparse_csr_tensor(
                torch.from_numpy(begin),
                torch.from_numpy(rows),
                torch.zeros(len(rows)),
                size=(len(self.queries), len(self.gallery)),
                check_invariants=False,
            )
            found = torch.sparse.sampled_addmm(wanted, self.queries, self.gallery.T, beta=0.0)
        values = found.values().double().numpy() * self.factors[rows]
        return values, np.full(len(rows), accumulation(self.queries.shape[1]))
