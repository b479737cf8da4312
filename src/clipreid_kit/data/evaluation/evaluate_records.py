"""Evaluate embeddings by the identities and cameras of their records."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from clipreid_kit.data.evaluation.evaluation_ids import evaluation_ids
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.metrics import ReidResult, evaluate_reid


def evaluate_records(
    query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"] | None,
    query_records: Sequence[ImageRecord],
    gallery_records: Sequence[ImageRecord] | None,
    *,
    cameras: bool | None = None,
    junk_ids: Sequence[int] | Sequence[str] = (),
    distance: Literal["cosine", "euclidean"] = "cosine",
    ties: Literal["pessimistic", "optimistic", "mean"] = "pessimistic",
    max_rank: int = 50,
) -> ReidResult:
    """Evaluate embeddings of query and gallery images: Rank-k (CMC), mAP and mINP.

    Use it after :func:`encode_images`. It is ``evaluate_reid`` with the columns of
    :func:`evaluation_ids`; call these two yourself for re-ranking, further exclusion rules or
    another protocol.

    Args:
        query_embeddings: (Q, D), row i of ``query_records[i]``; a tensor on any device, or an
            array.
        gallery_embeddings: (G, D), row i of ``gallery_records[i]``. ``None``, with no gallery
            records, evaluates leave-one-out: each query ranks all other queries.
        query_records: The query images.
        gallery_records: The gallery images; ``None`` for leave-one-out.
        cameras: Whether to leave out gallery images of the query's identity and camera. ``None``
            leaves them out if there is a gallery and every record has a camera.
        junk_ids: Gallery images of these identities are left out of every ranking (Market-1501:
            ``(-1,)``).
        distance: ``"cosine"``, or ``"euclidean"`` between the embeddings as they are.
        ties: Whether a wrong image exactly as near as a match ranks above it (``"pessimistic"``),
            below it (``"optimistic"``), or at their mean rank (``"mean"``).
        max_rank: Length of the CMC curve; a smaller gallery shortens it.

    Returns:
        A :class:`ReidResult`; print it, or read ``mean_ap`` and ``rank(1)``.

    Raises:
        ValueError: If embeddings and records differ in number, only one of the gallery's two is
            given, a record lacks a camera that is asked for, or ``evaluate_reid`` refuses the
            embeddings.

    Example:
        >>> query = [ImageRecord("a.jpg", "rex", camera=1)]
        >>> gallery = [ImageRecord("b.jpg", "tom", camera=2), ImageRecord("c.jpg", "rex", camera=2)]
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        >>> result = evaluate_records(rows[:1], rows[1:], query, gallery)
        >>> result.rank(1)  # cosine similarity 0.8 to rex, 0.6 to tom
        1.0
        >>> leave_one_out = evaluate_records(rows, None, query + gallery, None)
        >>> leave_one_out.num_queries, leave_one_out.num_valid_queries  # tom has one image
        (3, 2)
    """
    if (gallery_embeddings is None) != (gallery_records is None):
        given, missing = "gallery_embeddings", "gallery_records"
        if gallery_embeddings is None:
            given, missing = missing, given
        raise ValueError(
            f"evaluate_records: {given} is given without {missing}. Pass both; or None for both, "
            "to evaluate leave-one-out."
        )

    _check_lengths("query", query_embeddings, query_records)
    if gallery_embeddings is not None and gallery_records is not None:
        _check_lengths("gallery", gallery_embeddings, gallery_records)

    columns: dict[str, Any] = evaluation_ids(query_records, gallery_records, cameras=cameras)
    return evaluate_reid(
        query_embeddings,
        gallery_embeddings,
        **columns,
        junk_ids=junk_ids,
        distance=distance,
        ties=ties,
        max_rank=max_rank,
    )


def _check_lengths(
    side: str, embeddings: Tensor | npt.NDArray[Any], records: Sequence[ImageRecord]
) -> None:
    """Raise ValueError if there is not one embedding for each record."""
    if len(embeddings) != len(records):
        raise ValueError(
            f"evaluate_records: got {len(embeddings)} {side} embeddings for {len(records)} {side} "
            "records. Encode every record once, in order: shuffle=False, drop_last=False."
        )
