"""Re-identification metrics: Rank-k (CMC), mAP and mINP, with the camera rule and further rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_dense, check_integer
from clipreid_kit._similarity.embedding_rows import EmbeddingRows, check_same_dim
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.find_matches import find_matches
from clipreid_kit.metrics._engine.given_similarity import (
    BlockSimilarity,
    Nearer,
    RowReader,
    matches_by_function,
    matches_by_rows,
    warn_if_reversed,
)
from clipreid_kit.metrics._engine.id_columns import Ids
from clipreid_kit.metrics._engine.identity_matches import (
    IdentityMatches,
    Rule,
    check_exclude,
    read_identity_matches,
)
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics._engine.saved_counts import Report, SavedCounts
from clipreid_kit.metrics.reranking._similarity_rows import check_nearer, row_reader
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker
from clipreid_kit.metrics.results._from_match_counts import reid_result_from_matches
from clipreid_kit.metrics.results.reid_result import ReidResult


@torch.no_grad()
def evaluate_reid(
    query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"] | None = None,
    *,
    query_ids: Ids,
    gallery_ids: Ids | None = None,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    exclude: Sequence[tuple[Ids, Ids | None]] = (),
    junk_ids: Sequence[int] | Sequence[str] = (),
    distance: Distance = "cosine",
    similarity: BlockSimilarity | None = None,
    nearer: Nearer = "larger",
    ties: Ties = "pessimistic",
    max_rank: int = 50,
    progress: Report | None = None,
    state_file: str | Path | None = None,
) -> ReidResult:
    r"""Evaluate embeddings by the protocol of re-identification: Rank-k (CMC), mAP and mINP.

    Every query ranks the whole gallery. If cameras are given, gallery rows with the query's
    identity *and* its camera are left out: finding another frame of the same shot is no
    achievement. Queries without a match in the rest are counted, but no mean includes them. Without
    a gallery, every query ranks all other queries (leave-one-out).

    .. math::
        AP = \frac{1}{n} \sum_{k=1}^{n} \frac{k}{r_k}, \qquad INP = \frac{n}{r_n}

    with :math:`r_k` the rank of the k-th of n matches.

    Args:
        query_embeddings: (Q, D), any scale; tensors on any device or numpy arrays, float16 to
            float64 or bfloat16.
        gallery_embeddings: (G, D). A memory-mapped array is read by blocks and never held as a
            whole. ``None`` for leave-one-out: the queries are the gallery.
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery row, of the same kind; identities that no query has
            are distractors. ``None`` for leave-one-out: each query is left out of its own ranking.
        query_cameras: Camera of each query; ``None`` (for both sides) leaves nothing out.
        gallery_cameras: Camera of each gallery row; ``None`` in leave-one-out.
        exclude: Further rules like that of the cameras, each a pair (value of each query, value of
            each gallery row): a gallery row of the query's identity is left out if *any* of these
            values is the query's. The second is ``None`` in leave-one-out.
        junk_ids: Gallery rows with one of these identities are left out of every ranking
            (Market-1501: ``(-1,)``).
        distance: ``"cosine"``, or ``"euclidean"`` for distances of the embeddings without
            normalisation.
        similarity: Your own similarity instead of ``distance``: a function of (query rows, gallery
            rows) that returns their block of similarities. For a matrix or a re-ranker use
            :func:`evaluate_reid_similarity`.
        nearer: With ``similarity``, which of its values are nearer: the ``"larger"``, or the
            ``"smaller"`` of a function that returns distances.
        ties: Rank of a match that is tied with non-matches: below them (``"pessimistic"``: a
            collapsed model scores near 0), above them (``"optimistic"``), or its mean over all
            orders of the ties (``"mean"``). Without ties all three are the classical definition.
        max_rank: Length of the CMC curve; shortened to the size of the gallery.
        progress: Called with the number of pairs that were compared, and that of all pairs, some
            times a second to a minute.
        state_file: File to save the counts in as they grow. A run that was killed continues from
            it, with the same result to the last bit, where it is called again with the same
            arguments; the file is removed at the end. Use it for galleries that take minutes.

    Returns:
        A :class:`ReidResult`. Ranks are those of exact similarities, so the result has the same
        bits on any machine, device and number of threads, and for any order of the gallery. With
        ``similarity`` they are those of its values.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or
            infinity (the error names the rows), only one side has cameras, no query has a valid
            match, or the state file is of another evaluation. A warning says where the cameras of
            both sides hardly meet.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> result = evaluate_reid(gallery[:1], gallery, query_ids=[7], gallery_ids=[3, 7, 7])
        >>> result.rank(1), result.rank(2), round(result.mean_ap, 4), round(result.mean_inp, 4)
        (0.0, 1.0, 0.5833, 0.6667)
        >>> # leave-one-out: identity 3 has no second row
        >>> evaluate_reid(gallery, query_ids=[3, 7, 7]).num_valid_queries
        2

    References:
        Zheng et al., Scalable Person Re-identification (Market-1501), ICCV 2015, section 5. Ye et
        al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2021, eq. 8
        (mINP).
    """
    owner = "evaluate_reid"
    check_distance(owner, distance)
    check_options(owner, ties, max_rank)
    _check_function(owner, similarity, distance, nearer)
    check_exclude(owner, exclude)

    queries, gallery = _read_sides(owner, query_embeddings, gallery_embeddings, gallery_ids)
    identities = _read_identities(
        owner,
        (len(queries), len(gallery)),
        (query_ids, gallery_ids),
        (query_cameras, gallery_cameras),
        exclude,
        junk_ids,
    )
    if progress is not None or state_file is not None:
        if similarity is not None:
            raise ValueError(f"{owner}: progress and state_file have no effect with similarity.")
        path = None if state_file is None else Path(state_file)
        saved = SavedCounts(owner, len(queries), path, progress)
        matches = find_matches(queries, gallery, identities, distance, saved)
        result = reid_result_from_matches(owner, matches, identities, ties, max_rank)
        saved.remove()
        return result

    if similarity is None:
        matches = find_matches(queries, gallery, identities, distance)
    else:
        matches = matches_by_function(owner, similarity, queries, gallery, identities, nearer)
        matches = warn_if_reversed(owner, matches, identities)
    return reid_result_from_matches(owner, matches, identities, ties, max_rank)


@torch.no_grad()
def evaluate_reid_similarity(
    similarity: Float[Tensor, "q g"] | Float[np.ndarray, "q g"] | KReciprocalReranker,
    *,
    query_ids: Ids,
    gallery_ids: Ids | None = None,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    exclude: Sequence[tuple[Ids, Ids | None]] = (),
    junk_ids: Sequence[int] | Sequence[str] = (),
    nearer: Nearer = "larger",
    ties: Ties = "pessimistic",
    max_rank: int = 50,
) -> ReidResult:
    """Evaluate given similarities by the protocol of re-identification: Rank-k (CMC), mAP and mINP.

    Use it for a matrix that you computed yourself, or to evaluate with re-ranking. For embeddings,
    and for a similarity that is a function of embeddings, use :func:`evaluate_reid`, which also
    describes the rules and measures.

    Args:
        similarity: A matrix (Q, G), or a :class:`KReciprocalReranker` of both sides, which computes
            a few queries at a time, so nothing of size Q x G is held.
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery row, of the same kind. ``None`` for leave-one-out with
            a matrix (N, N): each query is left out of its own ranking.
        query_cameras: Camera of each query; ``None`` (for both sides) leaves nothing out.
        gallery_cameras: Camera of each gallery row; ``None`` in leave-one-out.
        exclude: Further rules like that of the cameras, see :func:`evaluate_reid`.
        junk_ids: Gallery rows with one of these identities are left out of every ranking.
        nearer: Which values of a matrix are nearer: the ``"larger"`` of similarities, or the
            ``"smaller"`` of distances. If the matches of most queries come last, a warning asks
            for the other.
        ties: Rank of a match that is tied with non-matches: below them (``"pessimistic"``), above
            them (``"optimistic"``), or its mean over all orders of the ties (``"mean"``).
        max_rank: Length of the CMC curve; shortened to the size of the gallery.

    Returns:
        A :class:`ReidResult`. Ranks are those of the given values.

    Raises:
        ValueError: If the shape and the ids disagree, the similarities are empty or hold NaN, only
            one side has cameras, or no query has a valid match.

    Example:
        >>> result = evaluate_reid_similarity(
        ...     torch.tensor([[0.9, 0.8, 0.1]]), query_ids=[7], gallery_ids=[3, 7, 7]
        ... )
        >>> result.rank(1), result.rank(2), round(result.mean_ap, 4)
        (0.0, 1.0, 0.5833)
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> reranker = KReciprocalReranker(gallery[:1], gallery, k1=2, k2=1)
        >>> evaluate_reid_similarity(reranker, query_ids=[7], gallery_ids=[3, 7, 7]).rank(2)
        1.0
    """
    owner = "evaluate_reid_similarity"
    check_options(owner, ties, max_rank)
    check_exclude(owner, exclude)

    check_nearer(owner, similarity, nearer)
    read_rows, shape = _read_similarity(owner, similarity, leave_one_out=gallery_ids is None)
    identities = _read_identities(
        owner,
        shape,
        (query_ids, gallery_ids),
        (query_cameras, gallery_cameras),
        exclude,
        junk_ids,
    )
    matches = matches_by_rows(owner, read_rows, identities, nearer)
    matches = warn_if_reversed(owner, matches, identities)
    return reid_result_from_matches(owner, matches, identities, ties, max_rank)


def check_distance(owner: str, distance: str) -> None:
    """Require the name of a distance."""
    check_choice(owner, "distance", distance, ("cosine", "euclidean"))


def check_options(owner: str, ties: str, max_rank: int) -> None:
    """Check the options of an evaluation other than the distance."""
    check_choice(owner, "ties", ties, ("pessimistic", "optimistic", "mean"))
    check_integer(owner, "max_rank", max_rank, 1)


def _check_function(
    owner: str, similarity: BlockSimilarity | None, distance: str, nearer: str
) -> None:
    """Require a function of blocks, and no distance beside it."""
    check_nearer(owner, similarity, nearer)
    if similarity is None:
        if nearer != "larger":
            raise ValueError(f"{owner}: nearer belongs to similarity; pass distance instead.")
        return
    if isinstance(similarity, KReciprocalReranker | type) or not callable(similarity):
        raise ValueError(
            f"{owner}: similarity is a function of (query rows, gallery rows); "
            "pass a matrix or a re-ranker to evaluate_reid_similarity."
        )
    if distance != "cosine":
        raise ValueError(f"{owner}: distance and similarity exclude each other; pass one.")


def _read_sides(
    owner: str,
    query_embeddings: Tensor | npt.NDArray[Any] | None,
    gallery_embeddings: Tensor | npt.NDArray[Any] | None,
    gallery_ids: Ids | None,
) -> tuple[EmbeddingRows, EmbeddingRows]:
    """Check the embeddings of both sides; they are one and the same in leave-one-out."""
    if query_embeddings is None:
        raise ValueError(
            f"{owner}: query_embeddings is None; "
            "pass a matrix or a re-ranker to evaluate_reid_similarity."
        )
    if (gallery_embeddings is None) != (gallery_ids is None):
        given = "gallery_ids" if gallery_embeddings is None else "gallery_embeddings"
        missing = "gallery_embeddings" if gallery_embeddings is None else "gallery_ids"
        raise ValueError(
            f"{owner}: {given} given without {missing}; omit both to rank every query among the "
            "others."
        )

    queries = EmbeddingRows(owner, "query_embeddings", query_embeddings)
    if gallery_embeddings is None:
        return queries, queries
    gallery = EmbeddingRows(owner, "gallery_embeddings", gallery_embeddings, queries.device)
    check_same_dim(owner, queries, gallery)
    return queries, gallery


def _read_similarity(
    owner: str,
    similarity: Tensor | npt.NDArray[Any] | KReciprocalReranker,
    *,
    leave_one_out: bool,
) -> tuple[RowReader, tuple[int, int]]:
    """Check given similarities, and return their reader and shape."""
    if isinstance(similarity, KReciprocalReranker):
        if leave_one_out:
            raise ValueError(
                f"{owner}: a re-ranker needs gallery_ids; in leave-one-out every row would be "
                "its own neighbour."
            )
        return row_reader(similarity), (similarity.num_queries, similarity.num_gallery)

    if not isinstance(similarity, Tensor | np.ndarray):
        raise ValueError(
            f"{owner}: similarity is a matrix (Q, G) or a KReciprocalReranker, got "
            f"{type(similarity).__name__}. A function of embeddings belongs to evaluate_reid."
        )
    if isinstance(similarity, Tensor):
        check_dense(owner, "similarity", similarity)

    shape = tuple(similarity.shape)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"{owner}: similarity is a matrix (Q, G) that is not empty, got shape {shape}."
        )
    if leave_one_out and shape[0] != shape[1]:
        raise ValueError(
            f"{owner}: without gallery_ids, similarity is a square matrix (leave-one-out), "
            f"got shape {shape}."
        )
    return row_reader(similarity), (shape[0], shape[1])


def _read_identities(
    owner: str,
    shape: tuple[int, int],
    ids: tuple[Ids, Ids | None],
    cameras: tuple[Ids | None, Ids | None],
    exclude: Sequence[tuple[Ids, Ids | None]],
    junk_ids: Sequence[int] | Sequence[str],
) -> IdentityMatches:
    """Check identities, cameras and further rules of both sides."""
    rules = [Rule("cameras", *cameras)]
    for of_query, of_gallery in exclude:
        rules.append(Rule("values of exclude", of_query, of_gallery))
    return read_identity_matches(owner, shape, ids, rules, junk_ids)
