"""Measures of retrieval: text to image, image to text, or anything to anything, with several right answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.metrics.relevance import Ids, Relevance, flat_ids, relevance_by_ids, relevance_by_lists
from clipreid_kit.metrics.relevant_ranks import Ties, ranks_in_space, ranks_of_matrix
from clipreid_kit.metrics.rerank import KReciprocalReranker
from clipreid_kit.metrics.retrieval_result import RetrievalResult
from clipreid_kit.metrics.space import Distance, Space, checked_sets

_OWNER = "evaluate_retrieval"


@torch.no_grad()
def evaluate_retrieval(
    query_embeddings: Float[Tensor, "q d"] | None,
    candidate_embeddings: Float[Tensor, "c d"] | None = None,
    *,
    query_ids: Ids | None = None,
    candidate_ids: Ids | None = None,
    relevant: Sequence[Sequence[int] | Tensor | npt.NDArray[np.int64]] | None = None,
    distance: Distance = "cosine",
    similarity: Float[Tensor, "q c"] | KReciprocalReranker | None = None,
    ties: Ties = "pessimistic",
) -> RetrievalResult:
    """Evaluate retrieval: hit rate, recall and NDCG at k, mAP, MRR, R-precision and MAP@R.

    Every query ranks all candidates. What is right is said by ids (right if equal) or by a list for each query, so a
    sentence may fit several images and an image several sentences. For both directions call it twice, with the sides
    exchanged. For the camera rule of re-identification there is :func:`evaluate_reid`.

    Args:
        query_embeddings: (Q, D), any scale, float16 to float64; ``None`` where ``similarity`` is given.
        candidate_embeddings: (C, D). ``None``: the queries are the candidates, and none is a candidate of its own
            (leave-one-out).
        query_ids: Id of each query: integers or strings. A candidate with the same id is relevant.
        candidate_ids: Id of each candidate, of the same kind; ``None`` in leave-one-out.
        relevant: Instead of ids, for each query the row numbers of its relevant candidates; a list may be empty.
        distance: ``"cosine"``, or ``"euclidean"`` for distances between the embeddings as they are.
        similarity: Instead of embeddings, your own similarities (Q, C), larger is nearer; or a
            :class:`KReciprocalReranker` of queries and candidates, which is asked for a few queries at a time.
        ties: A wrong candidate exactly as near as a relevant one stands above it (``"pessimistic"``: a collapsed
            model scores near 0) or below it (``"optimistic"``). With distinct similarities both are the same.

    Returns:
        A :class:`RetrievalResult`. Ranks are those of float64 similarities, or of the given ones. Queries without a
        relevant candidate are counted and take no part in the means.

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
    check_choice(_OWNER, "ties", ties, ("pessimistic", "optimistic"))
    if similarity is not None and distance != "cosine":
        remedy = "Ranks are those of similarity; a re-ranker has a distance of its own."
        raise fail(_OWNER, "distance or similarity", "both", remedy)
    if isinstance(similarity, KReciprocalReranker):
        if query_embeddings is not None or candidate_embeddings is not None:
            raise fail(_OWNER, "embeddings or similarity", "both", "Pass None for query_embeddings.")
        shape = (similarity.num_queries, similarity.num_gallery)
        relevance = _relevance(query_ids, candidate_ids, relevant, shape)
        blocks = [_ranks_of_block(part, block, relevance, ties) for part, block in similarity]
        return RetrievalResult(np.concatenate(blocks), relevance.begin, shape[1], _kept_ids(query_ids, shape[0]))
    if similarity is not None:
        similarity = _checked_matrix(similarity, query_embeddings, candidate_embeddings)
        relevance = _relevance(query_ids, candidate_ids, relevant, (similarity.shape[0], similarity.shape[1]))
        ranks = ranks_of_matrix(similarity, relevance, ties)
        ids = _kept_ids(query_ids, similarity.shape[0])
        return RetrievalResult(ranks, relevance.begin, similarity.shape[1], ids)
    if query_embeddings is None:
        raise fail(_OWNER, "query_embeddings or similarity", "neither")
    names, sets = ["query_embeddings"], [query_embeddings]
    alone = candidate_embeddings is None
    if candidate_embeddings is not None:
        names, sets = [*names, "candidate_embeddings"], [*sets, candidate_embeddings]
    space = Space(checked_sets(_OWNER, names, sets), distance)
    shape = (sets[0].shape[0], sets[-1].shape[0])
    relevance = _relevance(query_ids, candidate_ids, relevant, shape, alone=alone)
    ranks = ranks_in_space(space, shape, relevance, ties, alone=alone)
    return RetrievalResult(ranks, relevance.begin, shape[1] - alone, _kept_ids(query_ids, shape[0]))


def _kept_ids(query_ids: Ids | None, count: int) -> npt.NDArray[Any] | None:
    return None if query_ids is None else flat_ids(_OWNER, "query_ids", query_ids, count)


def _ranks_of_block(part: slice, distances: Tensor, relevance: Relevance, ties: Ties) -> npt.NDArray[np.int64]:
    begin = relevance.begin[part.start : part.stop + 1]
    own = Relevance(begin - begin[0], relevance.rows[begin[0] : begin[-1]])
    return ranks_of_matrix(-distances, own, ties)


def _relevance(
    query_ids: Ids | None,
    candidate_ids: Ids | None,
    relevant: Sequence[Sequence[int] | Tensor | npt.NDArray[np.int64]] | None,
    shape: tuple[int, int],
    *,
    alone: bool = False,
) -> Relevance:
    if (relevant is None) == (query_ids is None) or (relevant is not None and candidate_ids is not None):
        given = [
            n
            for n, v in (("query_ids", query_ids), ("candidate_ids", candidate_ids), ("relevant", relevant))
            if v is not None
        ]
        raise fail(_OWNER, "either ids or relevant", " and ".join(given) or "neither")
    if relevant is not None:
        relevance = relevance_by_lists(_OWNER, relevant, shape)
    elif query_ids is None or (candidate_ids is None) != alone:
        raise fail(
            _OWNER,
            "candidate_ids exactly where there are candidates",
            "none" if candidate_ids is None else "candidate_ids without candidate_embeddings",
        )
    else:
        relevance = relevance_by_ids(_OWNER, query_ids, query_ids if candidate_ids is None else candidate_ids, shape)
    if alone:
        relevance = _without_self(relevance)
    if len(relevance.rows) == 0:
        raise fail(
            _OWNER,
            "at least one query with a relevant candidate",
            f"none among {shape[0]} queries and {shape[1]} candidates",
            "Compare how the ids of the two sides were made: they have to be numbered or named alike.",
        )
    return relevance


def _without_self(relevance: Relevance) -> Relevance:
    query = np.repeat(np.arange(len(relevance.begin) - 1), np.diff(relevance.begin))
    kept = relevance.rows != query
    counts = np.bincount(query[kept], minlength=len(relevance.begin) - 1)
    return Relevance(np.concatenate([[0], np.cumsum(counts)]), relevance.rows[kept])


def _checked_matrix(similarity: Tensor, queries: Tensor | None, candidates: Tensor | None) -> Tensor:
    if queries is not None or candidates is not None:
        raise fail(_OWNER, "embeddings or similarity", "both", "Pass None for query_embeddings.")
    if similarity.ndim != 2 or 0 in similarity.shape or not similarity.is_floating_point():
        raise fail(
            _OWNER, "similarity as a floating-point matrix (Q, C)", f"{similarity.dtype} {tuple(similarity.shape)}"
        )
    if bool(torch.isnan(similarity).any()):
        raise fail(_OWNER, "similarity without NaN", f"{int(torch.isnan(similarity).sum())} of them")
    return similarity.detach().float() if similarity.dtype == torch.bfloat16 else similarity.detach()
