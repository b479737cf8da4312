"""Loss by an approximate search: recall, and Rank-1 and mAP beside those of the exact answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clipreid_kit.metrics import ConfidenceInterval, bootstrap_interval
from clipreid_kit.retrieval.search_result import SearchResult

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ApproximationReport:
    """Comparison of an approximate search with the exact one. All values are in [0, 1].

    Each interval is the 95 % bootstrap interval over identities, or over queries where none were
    given. mAP is that of the first ``k`` images, divided by the number of matches that ``k`` images
    can hold.

    Attributes:
        k: How many images each answer has.
        num_queries: Number of queries.
        recall: Share of the exact answer that the approximate one holds; an image that is as
            near as the last exact one counts.
        rank_1: Rank-1 of the exact answer; ``None`` without identities, as what follows.
        approximate_rank_1: Rank-1 of the approximate answer.
        lost_rank_1: The first less the second, query by query.
        mean_ap: mAP of the exact answer.
        approximate_mean_ap: mAP of the approximate answer.
        lost_mean_ap: The first less the second, query by query.
    """

    k: int
    num_queries: int
    recall: ConfidenceInterval
    rank_1: ConfidenceInterval | None = None
    approximate_rank_1: ConfidenceInterval | None = None
    lost_rank_1: ConfidenceInterval | None = None
    mean_ap: ConfidenceInterval | None = None
    approximate_mean_ap: ConfidenceInterval | None = None
    lost_mean_ap: ConfidenceInterval | None = None

    def table(self) -> str:
        """Return the values in percent, as a table for a terminal."""
        rows = {
            f"recall@{self.k}": self.recall,
            "Rank-1, exact": self.rank_1,
            "Rank-1, approximate": self.approximate_rank_1,
            "Rank-1, lost": self.lost_rank_1,
            f"mAP@{self.k}, exact": self.mean_ap,
            f"mAP@{self.k}, approximate": self.approximate_mean_ap,
            f"mAP@{self.k}, lost": self.lost_mean_ap,
        }
        lines = [f"{self.num_queries} queries; in percent, with the 95 % interval"]
        for name, interval in rows.items():
            if interval is not None:
                mean, low, high = (100 * value for value in interval)
                lines.append(f"{name:22}{mean:7.2f}  ({low:.2f} to {high:.2f})")
        return "\n".join(lines)


class QueryLabels(NamedTuple):
    """Identities and cameras of the queries.

    Attributes:
        identities: Identity of each query.
        cameras: Camera of each query, whose images were left out; ``None`` if none were.
    """

    identities: Sequence[object]
    cameras: Sequence[object] | None


class LabelledGallery(NamedTuple):
    """Identities and cameras of the images that a search may find.

    Attributes:
        identities: Identity of each image.
        cameras: Camera of each image.
    """

    identities: Sequence[object]
    cameras: Sequence[object]


def compare_answers(
    exact: SearchResult,
    found: SearchResult,
    labels: QueryLabels | None = None,
    gallery: LabelledGallery | None = None,
    *,
    seed: int = 0,
) -> ApproximationReport:
    """Compare approximate answers with the exact ones.

    Args:
        exact: The exact answers, of two queries at least.
        found: The approximate answers to the same queries.
        labels: What is known of the queries; ``None`` compares recall only.
        gallery: What is known of the images, with ``labels``.
        seed: Of the bootstrap.

    Raises:
        ValueError: If fewer than two queries or identities have an answer.
    """
    num_queries, k = exact.rows.shape
    groups: Sequence[object] = list(range(num_queries))
    if labels is not None:
        groups = [repr(identity) for identity in labels.identities]

    def interval(values: FloatArray) -> ConfidenceInterval:
        return bootstrap_interval(values, groups, seed=seed)  # type: ignore[arg-type]

    recall = interval(recall_of_each(exact, found))
    if labels is None or gallery is None:
        return ApproximationReport(k, num_queries, recall)

    num_matches = _num_matches(labels, gallery)
    ranks, precisions = [], []
    for result in (exact, found):
        is_match = _matches(result, labels.identities)
        has_any = num_matches > 0
        ranks.append(np.where(has_any, is_match[:, 0], np.nan))
        precisions.append(average_precision_of_each(is_match, num_matches))

    return ApproximationReport(
        k,
        num_queries,
        recall,
        rank_1=interval(ranks[0]),
        approximate_rank_1=interval(ranks[1]),
        lost_rank_1=interval(ranks[0] - ranks[1]),
        mean_ap=interval(precisions[0]),
        approximate_mean_ap=interval(precisions[1]),
        lost_mean_ap=interval(precisions[0] - precisions[1]),
    )


def recall_of_each(exact: SearchResult, found: SearchResult) -> FloatArray:
    """Return for each query the share of the exact answer that was found; NaN for an empty one.

    Images that are as near as the last one of the exact answer count: which of them is in it is
    decided by the tie rule alone.
    """
    shares = np.full(len(exact.rows), np.nan)
    for query, wanted in enumerate(exact.similarities):
        present = wanted[~np.isnan(wanted)]
        if len(present):
            is_near = found.similarities[query] >= present[-1]
            shares[query] = min(1.0, is_near.sum() / len(present))
    return shares


def average_precision_of_each(
    is_match: BoolArray, num_matches: npt.NDArray[np.int64]
) -> FloatArray:
    """Return the average precision of each answer; NaN where the gallery has no match.

    Args:
        is_match: (Q, K), whether an image shows the identity of the query.
        num_matches: (Q,), matches in the gallery.
    """
    ranks = np.arange(1, is_match.shape[1] + 1)
    precision = np.cumsum(is_match, axis=1) / ranks
    possible = np.minimum(num_matches, is_match.shape[1]).astype(np.float64)
    possible[possible == 0] = np.nan
    values: FloatArray = (precision * is_match).sum(axis=1) / possible
    return values


def _num_matches(labels: QueryLabels, gallery: LabelledGallery) -> npt.NDArray[np.int64]:
    """Return how many images each query could find that show its identity."""
    of_identity = Counter(gallery.identities)
    own = Counter(zip(gallery.identities, gallery.cameras, strict=True))
    counts = [of_identity[identity] for identity in labels.identities]
    if labels.cameras is not None:
        pairs = zip(labels.identities, labels.cameras, strict=True)
        counts = [count - own[pair] for count, pair in zip(counts, pairs, strict=True)]
    return np.array(counts, dtype=np.int64)


def _matches(result: SearchResult, identities: Sequence[object]) -> BoolArray:
    """Return (Q, K), whether each image shows the identity of its query."""
    is_match = np.zeros(result.rows.shape, dtype=bool)
    for query, records in enumerate(result.records):
        for rank, record in enumerate(records):
            is_match[query, rank] = record is not None and record.identity == identities[query]
    return is_match
