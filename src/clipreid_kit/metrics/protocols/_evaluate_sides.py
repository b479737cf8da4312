"""Evaluate queries against a gallery, by plain distances or re-ranked, for all protocols."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics._engine.saved_counts import Report
from clipreid_kit.metrics.reid import (
    check_distance,
    check_options,
    evaluate_reid,
    evaluate_reid_similarity,
)
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker
from clipreid_kit.metrics.results.reid_result import ReidResult

Rerank = Callable[[Tensor, Tensor], KReciprocalReranker]


def check_protocol_options(
    owner: str, distance: Distance, ties: Ties, max_rank: int, rerank: Rerank | None
) -> None:
    """Check the options that all protocols share."""
    check_distance(owner, distance)
    check_options(owner, ties, max_rank)
    if rerank is None:
        return
    if not callable(rerank):
        raise ValueError(
            f"{owner}: rerank is a function such as KReciprocalReranker, or None; got {rerank!r}."
        )
    if distance != "cosine":
        raise ValueError(
            f"{owner}: distance has no effect with rerank; pass it to the re-ranker: "
            f"functools.partial(KReciprocalReranker, distance={distance!r})."
        )


def check_cameras(
    owner: str, query_cameras: Ids | None, gallery_cameras: Ids | None, reason: str
) -> None:
    """Require cameras: without them, the rule would silently be another one."""
    if query_cameras is None or gallery_cameras is None:
        raise ValueError(f"{owner}: query_cameras and gallery_cameras are required. {reason}")


def evaluate_sides(
    query_embeddings: Tensor | npt.NDArray[Any],
    gallery_embeddings: Tensor | npt.NDArray[Any],
    rerank: Rerank | None,
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    distance: Distance,
    ties: Ties,
    max_rank: int,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    exclude: Sequence[tuple[Ids, Ids | None]] = (),
    junk_ids: Sequence[int] | Sequence[str] = (),
    progress: Report | None = None,
    state_file: Path | None = None,
) -> ReidResult:
    """Evaluate two sides by plain distances, or re-ranked."""
    if rerank is None:
        return evaluate_reid(
            query_embeddings,
            gallery_embeddings,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            query_cameras=query_cameras,
            gallery_cameras=gallery_cameras,
            exclude=exclude,
            junk_ids=junk_ids,
            distance=distance,
            ties=ties,
            max_rank=max_rank,
            progress=progress,
            state_file=state_file,
        )

    return evaluate_reid_similarity(
        _rerank_sides(query_embeddings, gallery_embeddings, rerank),
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        exclude=exclude,
        junk_ids=junk_ids,
        ties=ties,
        max_rank=max_rank,
    )


def _rerank_sides(
    query_embeddings: Tensor | npt.NDArray[Any],
    gallery_embeddings: Tensor | npt.NDArray[Any],
    rerank: Rerank,
) -> KReciprocalReranker:
    owner = "evaluate_reid"
    queries = EmbeddingRows(owner, "query_embeddings", query_embeddings)
    gallery = EmbeddingRows(owner, "gallery_embeddings", gallery_embeddings, queries.device)
    reranker = rerank(queries.block(0, len(queries)), gallery.block(0, len(gallery)))

    # a matrix of distances would be ranked upside down
    if not isinstance(reranker, KReciprocalReranker):
        raise ValueError(
            f"{owner}: rerank returns a KReciprocalReranker, got {type(reranker).__name__}."
        )
    return reranker
