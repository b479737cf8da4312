"""Measures of retrieval: text to image, image to text, or anything to anything, with several right answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.metrics._engine.embedding_rows import Rows, check_widths
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.find_matches import find_matches
from clipreid_kit.metrics._engine.given_similarity import given_matches
from clipreid_kit.metrics._engine.identity_matches import Ids, Labels, flat, read_labels
from clipreid_kit.metrics._engine.ranks_to_measures import Ties, match_ranks
from clipreid_kit.metrics._engine.relevance_lists import Lists
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker
from clipreid_kit.metrics.results.retrieval_result import RetrievalResult

_OWNER = "evaluate_retrieval"


@torch.no_grad()
def evaluate_retrieval(
    query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"] | None,
    candidate_embeddings: Float[Tensor, "c d"] | Float[np.ndarray, "c d"] | None = None,
    *,
    query_ids: Ids | None = None,
    candidate_ids: Ids | None = None,
    relevant: Sequence[Sequence[int] | Tensor | npt.NDArray[np.int64]] | None = None,
    distance: Distance = "cosine",
    similarity: Float[Tensor, "q c"] | Float[np.ndarray, "q c"] | KReciprocalReranker | None = None,
    ties: Ties = "pessimistic",
) -> RetrievalResult:
    """Evaluate retrieval: hit rate, recall and NDCG at k, mAP, MRR, R-precision and MAP@R.

    Every query ranks all candidates. What is right is said by ids (right if equal) or by a list for each query, so a
    sentence may fit several images and an image several sentences. For both directions call it twice, with the sides
    exchanged. For the camera rule of re-identification there is :func:`evaluate_reid`.

    Args:
        query_embeddings: (Q, D), any scale; tensors on any device or numpy arrays, float16 to float64 or bfloat16.
            ``None`` where ``similarity`` is given.
        candidate_embeddings: (C, D). A memory-mapped array is read by blocks, and never held as a whole. ``None``: the
            queries are the candidates, and none is a candidate of its own (leave-one-out).
        query_ids: Id of each query: integers or strings. A candidate with the same id is relevant.
        candidate_ids: Id of each candidate, of the same kind; ``None`` in leave-one-out.
        relevant: Instead of ids, for each query the row numbers of its relevant candidates; a list may be empty.
        distance: ``"cosine"``, or ``"euclidean"`` for distances between the embeddings as they are.
        similarity: Instead of embeddings, your own similarities (Q, C), larger is nearer; or a
            :class:`KReciprocalReranker` of queries and candidates, which is asked for a few queries at a time.
        ties: A wrong candidate exactly as near as a relevant one stands above it (``"pessimistic"``: a collapsed
            model scores near 0), below it (``"optimistic"``), or ranks are those that a random order would give on
            average (``"mean"``). With distinct similarities all three are the same.

    Returns:
        A :class:`RetrievalResult`. Ranks are those of exact similarities, the same bits on any machine, and those of
        :func:`evaluate_reid`; or those of the given values. Queries without a relevant candidate are counted and take
        no part in the means.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or infinity (rows
            named), relevance is given twice or not at all, or no query has a relevant candidate.

    Example:
        >>> texts, images = torch.tensor([[1.0, 0.2]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        >>> result = evaluate_retrieval(texts, images, query_ids=["shoe"], candidate_ids=["shoe", "shoe", "hat"])
        >>> result.hit_rate(1), result.recall(1), round(result.mean_ap, 3), result.r_precision
        (1.0, 0.5, 0.833, 0.5)

    Relations:
        With binary relevance and distinct similarities, mAP, NDCG, R-precision and precision at k are those of
        torchmetrics' retrieval package (``empty_target_action="skip"``) and of scikit-learn, and MAP@R is that of
        pytorch-metric-learning.

    References:
        Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002 (NDCG). Musgrave et al., A
        Metric Learning Reality Check, ECCV 2020 (R-precision, MAP@R).
    """
    check_choice(_OWNER, "distance", distance, ("cosine", "euclidean"))
    check_choice(_OWNER, "ties", ties, ("pessimistic", "optimistic", "mean"))
    if similarity is not None and distance != "cosine":
        remedy = "Ranks are those of similarity; a re-ranker has a distance of its own."
        raise fail(_OWNER, "distance or similarity", "both", remedy)
    _check_relevance(query_ids, candidate_ids, relevant)
    if similarity is not None:
        shape = _shape_of(similarity, query_embeddings, candidate_embeddings)
        labels = _labels(query_ids, candidate_ids, relevant, shape, alone=False)
        found = given_matches(_OWNER, similarity, None, None, labels)
    else:
        queries, candidates = _sides(query_embeddings, candidate_embeddings)
        alone = queries is candidates
        shape = len(queries), len(candidates)
        labels = _labels(query_ids, candidate_ids, relevant, shape, alone=alone)
        found = find_matches(queries, candidates, labels, distance)
    parts = [(match_ranks(matches, ties), np.diff(matches.begin)) for matches in found]
    ranks, counts = (np.concatenate(x) for x in zip(*parts, strict=True))
    if len(ranks) == 0:
        raise fail(
            _OWNER,
            "at least one query with a relevant candidate",
            f"none among {shape[0]} queries and {shape[1]} candidates",
            "Compare how the ids of the two sides were made: they have to be numbered or named alike.",
        )
    left_out = similarity is None and candidate_embeddings is None  # each query for itself
    names = None if query_ids is None else flat(_OWNER, "query_ids", query_ids, shape[0])
    return RetrievalResult(
        ranks, np.concatenate([[0], np.cumsum(counts)]), shape[1] - left_out, names
    )


def _check_relevance(
    query_ids: Ids | None, candidate_ids: Ids | None, relevant: Sequence[Any] | None
) -> None:
    if (relevant is None) == (query_ids is None) or (
        relevant is not None and candidate_ids is not None
    ):
        arguments = (
            ("query_ids", query_ids),
            ("candidate_ids", candidate_ids),
            ("relevant", relevant),
        )
        got = " and ".join(name for name, value in arguments if value is not None)
        raise fail(_OWNER, "either ids or relevant", got or "neither")


def _labels(
    query_ids: Ids | None,
    candidate_ids: Ids | None,
    relevant: Sequence[Any] | None,
    shape: tuple[int, int],
    *,
    alone: bool,
) -> Labels | Lists:
    if relevant is not None:
        return Lists(_OWNER, relevant, shape, alone=alone)
    if query_ids is None or (candidate_ids is None) != alone:
        raise fail(
            _OWNER,
            "candidate_ids exactly where there are candidates",
            "none" if candidate_ids is None else "candidate_ids without candidate_embeddings",
        )
    return read_labels(_OWNER, shape, (query_ids, candidate_ids), (), sides=("query", "candidate"))


def _sides(
    queries: Tensor | npt.NDArray[Any] | None, candidates: Tensor | npt.NDArray[Any] | None
) -> tuple[Rows, Rows]:
    """Both sides, checked; one and the same in leave-one-out."""
    if queries is None:
        raise fail(_OWNER, "query_embeddings or similarity", "neither")
    rows = Rows(_OWNER, "query_embeddings", queries)
    if candidates is None:
        return rows, rows
    others = Rows(_OWNER, "candidate_embeddings", candidates, rows.device)
    check_widths(_OWNER, rows, others)
    return rows, others


def _shape_of(
    similarity: Tensor | npt.NDArray[Any] | KReciprocalReranker, queries: object, candidates: object
) -> tuple[int, int]:
    if queries is not None or candidates is not None:
        raise fail(_OWNER, "embeddings or similarity", "both", "Pass None for query_embeddings.")
    if isinstance(similarity, KReciprocalReranker):
        return similarity.num_queries, similarity.num_gallery
    if not isinstance(similarity, Tensor | np.ndarray):
        raise fail(_OWNER, "similarity as a matrix or a re-ranker", type(similarity).__name__)
    shape = tuple(similarity.shape)
    floating = (
        similarity.is_floating_point()
        if isinstance(similarity, Tensor)
        else similarity.dtype.kind == "f"
    )
    if len(shape) != 2 or 0 in shape or not floating:
        raise fail(
            _OWNER, "similarity as a floating-point matrix (Q, C)", f"{similarity.dtype} {shape}"
        )
    return shape[0], shape[1]
