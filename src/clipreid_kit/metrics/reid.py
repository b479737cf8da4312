"""Re-identification metrics of features: CMC, mAP and mINP, with the camera rule and others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit.metrics._engine.embedding_rows import Rows, check_widths
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.find_matches import find_matches
from clipreid_kit.metrics._engine.given_similarity import BlockSimilarity, given_matches
from clipreid_kit.metrics._engine.identity_matches import Ids, check_exclude, read_labels
from clipreid_kit.metrics._engine.ranks_to_measures import Ties, result_of
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker
from clipreid_kit.metrics.results.reid_result import ReidResult


@torch.no_grad()
def evaluate_reid(
    query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"] | None,
    gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"] | None = None,
    *,
    query_ids: Ids,
    gallery_ids: Ids | None = None,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    exclude: Sequence[tuple[Ids, Ids | None]] = (),
    junk_ids: Sequence[int] | Sequence[str] = (),
    distance: Distance = "cosine",
    similarity: Float[Tensor, "q g"]
    | Float[np.ndarray, "q g"]
    | KReciprocalReranker
    | BlockSimilarity
    | None = None,
    ties: Ties = "pessimistic",
    max_rank: int = 50,
) -> ReidResult:
    r"""Evaluate features by the protocol of re-identification: Rank-k (CMC), mAP and mINP.

    Every query ranks the whole gallery. Gallery items with the query's identity *and* its camera are left out, if
    cameras are given: finding another frame of the same shot is no achievement. Queries without a match in what is
    left are counted and take no part in the means. Without a gallery every query ranks all other queries
    (leave-one-out).

    .. math::
        AP = \frac{1}{n} \sum_{k=1}^{n} \frac{k}{r_k}, \qquad INP = \frac{n}{r_n}

    with :math:`r_k` the rank of the k-th of n matches.

    Args:
        query_embeddings: (Q, D), any scale; tensors on any device or numpy arrays, float16 to float64 or bfloat16.
            ``None`` where ``similarity`` is a matrix or a re-ranker.
        gallery_embeddings: (G, D). A memory-mapped array is read by blocks, and never held as a whole. ``None``: the
            queries are the gallery.
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery item, of the same kind; identities that no query has are distractors.
            ``None``: leave-one-out; each query's own row stands in no ranking of its own.
        query_cameras: Camera of each query; ``None`` (for both) leaves nothing out.
        gallery_cameras: Camera of each gallery item; ``None`` in leave-one-out, where it is the query's.
        exclude: Further rules like that of the cameras, each a pair (value of each query, value of each gallery
            item): a gallery item of the query's identity is left out if *any* of these values is the query's. The
            second is ``None`` in leave-one-out.
        junk_ids: Gallery items with one of these identities are left out of every ranking (Market-1501: ``(-1,)``).
        distance: ``"cosine"``, or ``"euclidean"`` for distances between the embeddings as they are.
        similarity: Your own similarities, larger is nearer, instead of ``distance``: a matrix (Q, G); a
            :class:`KReciprocalReranker` of both sides, which is asked for a few queries at a time, so nothing of Q x G
            is held; or a function of (query rows, gallery rows) that returns their block. Ranks are those of the given
            values.
        ties: A wrong item exactly as near as a match stands above it (``"pessimistic"``: a collapsed model scores
            near 0), below it (``"optimistic"``), or ranks are those that a random order would give on average
            (``"mean"``). With distinct similarities all three are the classical definition.
        max_rank: Length of the CMC curve; a gallery that is smaller shortens it.

    Returns:
        A :class:`ReidResult`. Ranks are those of exact similarities, so the result has the same bits on any machine,
        device and number of threads, and for any order of the gallery.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or infinity (rows
            named), only one side has cameras, or no query has a valid match.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> result = evaluate_reid(gallery[:1], gallery, query_ids=[7], gallery_ids=[3, 7, 7])
        >>> result.rank(1), result.rank(2), round(result.mean_ap, 4), round(result.mean_inp, 4)
        (0.0, 1.0, 0.5833, 0.6667)
        >>> evaluate_reid(gallery, query_ids=[3, 7, 7]).num_valid_queries  # leave-one-out: identity 3 stands alone
        2
        >>> reranked = KReciprocalReranker(gallery[:1], gallery, k1=2, k2=1)
        >>> evaluate_reid(None, similarity=reranked, query_ids=[7], gallery_ids=[3, 7, 7]).rank(2)
        1.0

    References:
        Zheng et al., Scalable Person Re-identification (Market-1501), ICCV 2015, section 5. Ye et al., Deep Learning
        for Person Re-identification: A Survey and Outlook, TPAMI 2021, eq. 8 (mINP).
    """
    check_options("evaluate_reid", distance, ties, max_rank)
    if similarity is not None and distance != "cosine":
        remedy = "Ranks are those of similarity; a re-ranker has a distance of its own."
        raise fail("evaluate_reid", "distance or similarity", "both", remedy)
    check_exclude("evaluate_reid", exclude)
    queries, gallery, shape = _sides(
        query_embeddings, gallery_embeddings, gallery_ids is None, similarity
    )
    labels = read_labels(
        "evaluate_reid",
        shape,
        (query_ids, gallery_ids),
        [
            ("cameras", query_cameras, gallery_cameras),
            *(("values of exclude", q, g) for q, g in exclude),
        ],
        junk_ids,
    )
    if similarity is not None:
        found = given_matches("evaluate_reid", similarity, queries, gallery, labels)
    elif queries is not None and gallery is not None:
        found = find_matches(queries, gallery, labels, distance)
    return result_of("evaluate_reid", found, labels, ties, max_rank)


def check_options(owner: str, distance: str, ties: str, max_rank: int) -> None:
    """Check what is no data."""
    check_choice(owner, "distance", distance, ("cosine", "euclidean"))
    check_choice(owner, "ties", ties, ("pessimistic", "optimistic", "mean"))
    check_integer(owner, "max_rank", max_rank, 1)


def _sides(
    query: Tensor | npt.NDArray[Any] | None,
    gallery: Tensor | npt.NDArray[Any] | None,
    leave_one_out: bool,
    similarity: Tensor | npt.NDArray[Any] | KReciprocalReranker | BlockSimilarity | None,
) -> tuple[Rows | None, Rows | None, tuple[int, int]]:
    """Both sides, checked, and their sizes."""
    owner = "evaluate_reid"
    given = isinstance(similarity, Tensor | np.ndarray | KReciprocalReranker)
    if given and not (query is None and gallery is None):
        kind = "re-ranker" if isinstance(similarity, KReciprocalReranker) else "matrix"
        remedy = "Pass None as the first argument."
        raise fail(owner, f"a {kind} as similarity, or embeddings", "both", remedy)
    if isinstance(similarity, KReciprocalReranker):
        if leave_one_out:
            remedy = "Every row would be among its own neighbours twice."
            raise fail(owner, "gallery_ids with a re-ranker", "none", remedy)
        return None, None, (similarity.num_queries, similarity.num_gallery)
    if isinstance(similarity, Tensor | np.ndarray):
        size = tuple(similarity.shape)
        if len(size) != 2 or 0 in size or (leave_one_out and size[0] != size[1]):
            expected = "(N, N) where gallery_ids is None" if leave_one_out else "(Q, G)"
            raise fail(owner, f"similarity as a matrix {expected}, not empty", f"shape {size}")
        return None, None, (size[0], size[1])
    if query is None:
        raise fail(owner, "query_embeddings, or a matrix as similarity", "neither")
    if leave_one_out != (gallery is None):
        got = "gallery_embeddings only" if leave_one_out else "gallery_ids only"
        remedy = "Leave both out to rank every query among the others."
        raise fail(owner, "gallery_embeddings and gallery_ids, or neither", got, remedy)
    queries = Rows(owner, "query_embeddings", query)
    rows = (
        queries if gallery is None else Rows(owner, "gallery_embeddings", gallery, queries.device)
    )
    check_widths(owner, queries, rows)
    return queries, rows, (len(queries), len(rows))
