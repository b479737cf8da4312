"""Groups of queries that each rank a gallery of their own, and one result for all of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._evaluate_sides import Rerank, evaluate_sides
from clipreid_kit.metrics.results.reid_result import ReidResult

IntArray = npt.NDArray[np.int64]


@runtime_checkable
class Options(Protocol):
    """The options that a protocol passes on to the evaluator."""

    @property
    def distance(self) -> Distance:
        """See :func:`evaluate_reid`."""

    @property
    def ties(self) -> Ties:
        """See :func:`evaluate_reid`."""

    @property
    def max_rank(self) -> int:
        """See :func:`evaluate_reid`."""


class Sides(NamedTuple):
    """Embeddings and columns of both sides.

    Attributes:
        queries: The queries.
        gallery: The gallery.
        ids: Identity of each query and of each gallery row, as numbers.
        exclude: Columns of both sides: a gallery row of the query's identity is left out where one
            of its values is the query's.
        named_ids: Identity of each query, as it was given.
    """

    queries: EmbeddingRows
    gallery: EmbeddingRows
    ids: tuple[IntArray, IntArray]
    exclude: Sequence[tuple[IntArray, IntArray]]
    named_ids: npt.NDArray[np.generic]

    def has_match(self, queries: IntArray, gallery: IntArray) -> bool:
        """Return whether one of these queries has a match in these rows of the gallery."""
        in_gallery = np.isin(self.ids[0][queries], self.ids[1][gallery])
        if not self.exclude:
            return bool(in_gallery.any())

        for query in queries[in_gallery].tolist():
            is_match = self.ids[1][gallery] == self.ids[0][query]
            for of_queries, of_gallery in self.exclude:
                is_match &= of_gallery[gallery] != of_queries[query]
            if is_match.any():
                return True
        return False


class QueryGroup(NamedTuple):
    """Queries, and the rows of the gallery that they rank."""

    queries: IntArray
    gallery: IntArray


def evaluate_groups(
    sides: Sides, groups: Iterable[QueryGroup], options: Options, rerank: Rerank | None = None
) -> ReidResult:
    """Evaluate each group of queries against its gallery, and join the results.

    Queries of no group, and those without a match, have no rank. ``num_gallery`` is the size of the
    largest gallery.
    """
    num_queries = len(sides.queries)
    average_precision = np.full(num_queries, np.nan)
    inverse_negative_penalty = np.full(num_queries, np.nan)
    first_rank = np.zeros(num_queries)
    num_positives = np.zeros(num_queries, dtype=np.int64)
    largest = 0

    for own, rows in groups:
        largest = max(largest, len(rows))
        if not sides.has_match(own, rows):  # an error in evaluate_reid
            continue

        result = evaluate_sides(
            sides.queries.take(own),
            sides.gallery.take(rows),
            rerank,
            query_ids=sides.ids[0][own],
            gallery_ids=sides.ids[1][rows],
            exclude=[(first[own], second[rows]) for first, second in sides.exclude],
            distance=options.distance,
            ties=options.ties,
            max_rank=options.max_rank,
        )
        average_precision[own] = result.average_precision
        inverse_negative_penalty[own] = result.inverse_negative_penalty
        first_rank[own] = result.first_rank
        num_positives[own] = result.num_positives

    return ReidResult(
        average_precision,
        inverse_negative_penalty,
        first_rank if options.ties == "mean" else first_rank.astype(np.int64),
        num_positives,
        num_gallery=largest,
        max_rank=min(options.max_rank, largest),
        query_ids=sides.named_ids,
    )
