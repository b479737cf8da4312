"""Similarities of chosen pairs, more precise than those of the fast pass: in float64, and exact."""

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.exact_cosines import exact_cosines
from clipreid_kit._similarity.exact_similarity import (
    Distance,
    combine_products,
    pair_products,
    rows_per_chunk,
    split_rows,
)
from clipreid_kit._similarity.float32_pass import (
    inverse_norms,
    product_error_bound,
    scale_rows,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_LONG_RUN = 256  # pairs of one query from which on a product for each query is fastest


@runtime_checkable
class Scorer(Protocol):
    """Compute similarities of pairs, and bounds on their errors."""

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the similarity of query i and gallery row i of the lists, and its error."""
        ...


class Float32Scorer:
    """Similarities in float32, many pairs at once; cosine only.

    Args:
        queries: Rows of the queries.
        query_norms: Their norms.
        gallery: Rows of the gallery.
        gallery_norms: Their norms, 0 or between 1e-15 and 1e15.
    """

    def __init__(
        self, queries: Tensor, query_norms: Tensor, gallery: Tensor, gallery_norms: Tensor
    ) -> None:
        self.queries = scale_rows(queries, inverse_norms(query_norms))
        self.gallery = gallery.float()
        self.factors = inverse_norms(gallery_norms).cpu().numpy()

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return similarities and their errors; pairs ascend by query."""
        begin = query.searchsorted(np.arange(len(self.queries) + 1))
        wanted = torch.sparse_csr_tensor(
            torch.from_numpy(begin),
            torch.from_numpy(rows),
            torch.zeros(len(rows), dtype=torch.float32, device="cpu"),
            size=(len(self.queries), len(self.gallery)),
            device="cpu",
            check_invariants=False,
        )
        found = torch.sparse.sampled_addmm(wanted, self.queries, self.gallery.T, beta=0.0)

        values = found.values().double().numpy() * self.factors[rows]
        return values, np.full(len(rows), product_error_bound(self.queries.shape[1]))


@contextmanager
def ignore_sparse_warning() -> Iterator[None]:
    """Ignore that torch calls its sparse tensors a beta, and that it trusts their indices.

    Filters belong to all threads, so this goes around those that use :class:`Float32Scorer`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor", UserWarning)
        warnings.filterwarnings("ignore", "Sparse invariant checks", UserWarning)
        yield


def float64_error_bound(dim: int) -> float:
    """Bound the error of a cosine in float64, in any order of operations.

    Derivation: docs/design/evaluator.md.
    """
    return (11 * dim + 32) * 2.0**-53


class Float64Scorer:
    """Similarities in float64, in any order of operations.

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
        self.queries = queries.double()
        self.gallery = gallery
        self.distance = distance
        self.query_norms = query_norms.cpu().numpy()
        self.gallery_norms = gallery_norms.cpu().numpy()

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return similarities and their errors; fastest where pairs ascend by query."""
        device = self.gallery.device
        chosen = torch.from_numpy(rows).to(device)
        values = torch.empty(len(rows), dtype=torch.float64, device=device)

        runs = np.flatnonzero(np.diff(query, prepend=-1, append=-1)).tolist()
        if len(rows) < _LONG_RUN * len(runs) and device.type == "cpu":
            return self._with_errors(self._score_short_runs(query, rows), query, rows)

        pairs_at_once = 4 * rows_per_chunk(self.gallery)
        for first, last in itertools.pairwise(runs):
            query_row = self.queries[int(query[first])]

            for start in range(first, last, pairs_at_once):
                part = slice(start, min(start + pairs_at_once, last))
                gallery_rows = self.gallery.index_select(0, chosen[part]).double()
                if self.distance == "cosine":
                    values[part] = gallery_rows @ query_row
                else:
                    values[part] = -(gallery_rows - query_row).square_().sum(1)

        return self._with_errors(values.cpu().numpy(), query, rows)

    def _score_short_runs(self, query: IntArray, rows: IntArray) -> FloatArray:
        """Score a chunk of pairs at a time, where few pairs have the same query."""
        queries = self.queries.numpy()
        chosen = torch.from_numpy(rows)
        values = np.empty(len(rows))

        pairs_at_once = 2 * rows_per_chunk(self.gallery)
        for start in range(0, len(rows), pairs_at_once):
            part = slice(start, start + pairs_at_once)
            query_rows = queries[query[part]]
            gallery_rows = self.gallery.index_select(0, chosen[part]).double().numpy()

            if self.distance == "cosine":
                values[part] = np.einsum("nd,nd->n", query_rows, gallery_rows)
            else:
                difference = np.subtract(gallery_rows, query_rows, out=gallery_rows)
                values[part] = -np.einsum("nd,nd->n", difference, difference)

        return values

    def _with_errors(
        self, values: FloatArray, query: IntArray, rows: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        relative = float64_error_bound(self.queries.shape[1])
        query_norms = self.query_norms[query]
        gallery_norms = self.gallery_norms[rows]
        if self.distance == "euclidean":
            return values, relative * (query_norms + gallery_norms) ** 2

        product = query_norms * gallery_norms
        return values / np.where(product > 0, product, 1.0), np.full(len(rows), relative)


class ExactScorer:
    """Exact similarities, with errors of 0.

    Args:
        queries: Rows of the queries.
        gallery: Rows of the gallery.
        distance: ``"cosine"`` or ``"euclidean"``.
    """

    def __init__(self, queries: Tensor, gallery: Tensor, distance: Distance) -> None:
        self.queries = queries
        self.gallery = gallery
        self.distance = distance

    def __call__(self, query: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return similarities and their errors."""
        device = self.gallery.device
        if self.distance == "cosine" and device.type == "cpu":
            return exact_cosines(self.queries, query, self.gallery, rows), np.zeros(len(rows))

        # Each distinct query is split once.
        distinct, position = np.unique(query, return_inverse=True)
        distinct_queries = self.queries[torch.from_numpy(distinct).to(device)]
        split_queries = split_rows(distinct_queries, self.distance)

        values = np.empty(len(rows))
        pairs_at_once = 8 * rows_per_chunk(self.gallery)
        for start in range(0, len(rows), pairs_at_once):
            part = slice(start, start + pairs_at_once)
            own_queries = split_queries.take(torch.from_numpy(position[part]).to(device))
            chosen = torch.from_numpy(rows[part]).to(device)
            own_rows = split_rows(self.gallery[chosen], self.distance)

            products = pair_products(own_queries, own_rows)
            exact = combine_products(products, own_queries, own_rows, self.distance)
            values[part] = exact.cpu().numpy()

        return values, np.zeros(len(rows))
