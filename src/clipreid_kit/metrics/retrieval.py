"""Retrieval metrics: text to image, image to text or any other pair, with several right answers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_dense, fail
from clipreid_kit._similarity.embedding_rows import EmbeddingRows, check_same_dim
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.find_matches import find_matches
from clipreid_kit.metrics._engine.given_similarity import (
    Nearer,
    matches_by_rows,
    warn_if_reversed,
)
from clipreid_kit.metrics._engine.id_columns import Ids, id_array
from clipreid_kit.metrics._engine.identity_matches import IdentityMatches, read_identity_matches
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.ranks_to_measures import Ties, match_ranks
from clipreid_kit.metrics._engine.relevance_lists import RelevanceLists
from clipreid_kit.metrics.reranking._similarity_rows import check_nearer, row_reader
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker
from clipreid_kit.metrics.results.retrieval_result import RetrievalResult

Relevant = Sequence[Sequence[int] | Tensor | npt.NDArray[np.int64]]


@torch.no_grad()
def evaluate_retrieval(
    query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"] | None = None,
    *,
    query_ids: Ids | None = None,
    gallery_ids: Ids | None = None,
    relevant: Sequence[Sequence[int] | Tensor | npt.NDArray[np.int64]] | None = None,
    distance: Distance = "cosine",
    ties: Ties = "pessimistic",
) -> RetrievalResult:
    """Evaluate retrieval: hit rate, recall and NDCG at k, mAP, MRR, R-precision and MAP@R.

    Every query ranks the whole gallery. Relevant rows are given by ids (relevant if equal) or by a
    list for each query, so a sentence may describe several images and an image may have several
    sentences. For both directions call it twice, with the sides exchanged. For the camera rule of
    re-identification use :func:`evaluate_reid`.

    Args:
        query_embeddings: (Q, D), any scale; tensors on any device or numpy arrays, float16 to
            float64 or bfloat16.
        gallery_embeddings: (G, D). A memory-mapped array is read by blocks and never held as a
            whole. ``None`` for leave-one-out: every query ranks all other queries.
        query_ids: Id of each query: integers or strings. A gallery row with the same id is
            relevant.
        gallery_ids: Id of each gallery row, of the same kind; ``None`` in leave-one-out.
        relevant: Instead of ids, for each query the row numbers of its relevant gallery rows; a
            list may be empty.
        distance: ``"cosine"``, or ``"euclidean"`` for distances of the embeddings without
            normalisation.
        ties: Rank of a relevant row that is tied with others: below them (``"pessimistic"``: a
            collapsed model scores near 0), above them (``"optimistic"``), or its mean over all
            orders of the ties (``"mean"``). Without ties all three are the same.

    Returns:
        A :class:`RetrievalResult`. Ranks are those of exact similarities: the same bits on any
        machine, and the same ranks as :func:`evaluate_reid`. Queries without a relevant row are
        counted, but no mean includes them.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or
            infinity (the error names the rows), relevance is given twice or not at all, or no query
            has a relevant row.

    Example:
        >>> texts = torch.tensor([[1.0, 0.2]])
        >>> images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        >>> result = evaluate_retrieval(
        ...     texts, images, query_ids=["shoe"], gallery_ids=["shoe", "shoe", "hat"]
        ... )
        >>> result.hit_rate(1), result.recall(1), round(result.mean_ap, 3), result.r_precision
        (1.0, 0.5, 0.833, 0.5)

    Relations:
        With binary relevance and without ties, mAP, NDCG, R-precision and precision at k are those
        of torchmetrics' retrieval package (``empty_target_action="skip"``) and of scikit-learn, and
        MAP@R is that of pytorch-metric-learning.

    References:
        Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002 (NDCG).
        Musgrave et al., A Metric Learning Reality Check, ECCV 2020 (R-precision, MAP@R).
    """
    owner = "evaluate_retrieval"
    check_choice(owner, "distance", distance, ("cosine", "euclidean"))
    check_choice(owner, "ties", ties, ("pessimistic", "optimistic", "mean"))

    queries, gallery = _read_sides(owner, query_embeddings, gallery_embeddings)
    leave_one_out = queries is gallery
    shape = len(queries), len(gallery)
    relevance = _read_relevance(
        owner, query_ids, gallery_ids, relevant, shape, leave_one_out=leave_one_out
    )
    matches = find_matches(queries, gallery, relevance, distance)
    return _build_result(owner, matches, query_ids, shape, ties, leave_one_out=leave_one_out)


@torch.no_grad()
def evaluate_retrieval_similarity(
    similarity: Float[Tensor, "q g"] | Float[np.ndarray, "q g"] | KReciprocalReranker,
    *,
    query_ids: Ids | None = None,
    gallery_ids: Ids | None = None,
    relevant: Sequence[Sequence[int] | Tensor | npt.NDArray[np.int64]] | None = None,
    nearer: Nearer = "larger",
    ties: Ties = "pessimistic",
) -> RetrievalResult:
    """Evaluate retrieval by given similarities: hit rate, recall, NDCG, mAP and related measures.

    Use it for a matrix that you computed yourself, or to evaluate with re-ranking. For embeddings
    use :func:`evaluate_retrieval`.

    Args:
        similarity: A floating-point matrix (Q, G), or a :class:`KReciprocalReranker` of both sides,
            which computes a few queries at a time.
        query_ids: Id of each query: integers or strings. A gallery row with the same id is
            relevant.
        gallery_ids: Id of each gallery row, of the same kind.
        relevant: Instead of ids, for each query the row numbers of its relevant gallery rows; a
            list may be empty.
        nearer: Which values of a matrix are nearer: the ``"larger"`` of similarities, or the
            ``"smaller"`` of distances. If the relevant rows of most queries come last, a warning
            asks for the other.
        ties: Rank of a relevant row that is tied with others: below them (``"pessimistic"``), above
            them (``"optimistic"``), or its mean over all orders of the ties (``"mean"``).

    Returns:
        A :class:`RetrievalResult`. Ranks are those of the given values. Queries without a relevant
        row are counted, but no mean includes them.

    Raises:
        ValueError: If the shape and the ids disagree, the similarities are empty or hold NaN,
            relevance is given twice or not at all, or no query has a relevant row.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.2, 0.4], [0.3, 0.8, 0.1]])
        >>> result = evaluate_retrieval_similarity(similarity, relevant=[[0, 2], [2]])
        >>> result.hit_rate(1), result.recall(2), round(result.mean_reciprocal_rank, 3)
        (0.5, 0.5, 0.667)
    """
    owner = "evaluate_retrieval_similarity"
    check_choice(owner, "ties", ties, ("pessimistic", "optimistic", "mean"))
    check_nearer(owner, similarity, nearer)

    shape = _shape_of(owner, similarity)
    relevance = _read_relevance(owner, query_ids, gallery_ids, relevant, shape, leave_one_out=False)
    matches = matches_by_rows(owner, row_reader(similarity), relevance, nearer)
    matches = warn_if_reversed(owner, matches, relevance)
    return _build_result(owner, matches, query_ids, shape, ties, leave_one_out=False)


def _read_sides(
    owner: str,
    query_embeddings: Tensor | npt.NDArray[Any] | None,
    gallery_embeddings: Tensor | npt.NDArray[Any] | None,
) -> tuple[EmbeddingRows, EmbeddingRows]:
    """Check the embeddings of both sides; they are one and the same in leave-one-out."""
    if query_embeddings is None:
        raise ValueError(
            f"{owner}: query_embeddings is None; "
            "pass a matrix or a re-ranker to evaluate_retrieval_similarity."
        )

    queries = EmbeddingRows(owner, "query_embeddings", query_embeddings)
    if gallery_embeddings is None:
        return queries, queries
    gallery = EmbeddingRows(owner, "gallery_embeddings", gallery_embeddings, queries.device)
    check_same_dim(owner, queries, gallery)
    return queries, gallery


def _read_relevance(
    owner: str,
    query_ids: Ids | None,
    gallery_ids: Ids | None,
    relevant: Relevant | None,
    shape: tuple[int, int],
    *,
    leave_one_out: bool,
) -> IdentityMatches | RelevanceLists:
    """Return the relevant gallery rows of each query, from lists or from ids."""
    if relevant is not None:
        if query_ids is not None or gallery_ids is not None:
            raise ValueError(f"{owner}: ids and relevant exclude each other; pass one.")
        return RelevanceLists(owner, relevant, shape, leave_one_out=leave_one_out)

    if query_ids is None:
        raise ValueError(f"{owner}: query_ids is missing; pass ids of both sides, or relevant.")
    if gallery_ids is None and not leave_one_out:
        raise ValueError(f"{owner}: gallery_ids is missing; pass the id of each gallery row.")
    if gallery_ids is not None and leave_one_out:
        raise ValueError(
            f"{owner}: gallery_ids given without gallery_embeddings; omit both to rank every query "
            "among the others."
        )
    return read_identity_matches(owner, shape, (query_ids, gallery_ids), ())


def _build_result(
    owner: str,
    matches: Iterable[MatchCounts],
    query_ids: Ids | None,
    shape: tuple[int, int],
    ties: Ties,
    *,
    leave_one_out: bool,
) -> RetrievalResult:
    """Join the ranks of all parts to a result."""
    num_queries, num_gallery = shape
    all_ranks, all_counts = [], []
    for part in matches:
        all_ranks.append(match_ranks(part, ties))
        all_counts.append(np.diff(part.begin))

    ranks: npt.NDArray[Any] = np.concatenate(all_ranks)
    if len(ranks) == 0:
        raise ValueError(
            f"{owner}: none of the {num_queries} queries has a relevant row among the "
            f"{num_gallery} of the gallery. Check how the ids of both sides were made: they have "
            "to be numbered or named alike."
        )

    begin = np.concatenate([[0], np.cumsum(np.concatenate(all_counts))])
    ids = None if query_ids is None else id_array(owner, "query_ids", query_ids, num_queries).copy()
    # in leave-one-out no query ranks itself
    return RetrievalResult(ranks, begin, num_gallery - leave_one_out, ids)


def _shape_of(
    owner: str, similarity: Tensor | npt.NDArray[Any] | KReciprocalReranker
) -> tuple[int, int]:
    """Check given similarities, and return their shape."""
    if isinstance(similarity, KReciprocalReranker):
        return similarity.num_queries, similarity.num_gallery
    if not isinstance(similarity, Tensor | np.ndarray):
        raise fail(owner, "similarity as a matrix or a re-ranker", type(similarity).__name__)

    if isinstance(similarity, Tensor):
        check_dense(owner, "similarity", similarity)
    shape = tuple(similarity.shape)
    if len(shape) != 2 or 0 in shape or not _is_floating(similarity):
        got = f"{similarity.dtype} of shape {shape}"
        raise fail(owner, "similarity as a floating-point matrix (Q, G)", got)
    return shape[0], shape[1]


def _is_floating(matrix: Tensor | npt.NDArray[Any]) -> bool:
    if isinstance(matrix, Tensor):
        return matrix.is_floating_point()
    return matrix.dtype.kind == "f"
