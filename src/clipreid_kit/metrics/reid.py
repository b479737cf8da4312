"""Re-identification metrics of features: CMC, mAP and mINP, with the camera rule."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, check_embeddings, check_integer, check_same_width, fail
from clipreid_kit.metrics.ranking import Ties, negatives_above
from clipreid_kit.metrics.result import ReidResult
from clipreid_kit.metrics.similarity import Similarity

Ids = Sequence[int] | Sequence[str] | Tensor | npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


@torch.no_grad()
def evaluate_reid(
    query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
    gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    query_cameras: Ids | None = None,
    gallery_cameras: Ids | None = None,
    similarity: Similarity = "cosine",
    ties: Ties = "pessimistic",
    max_rank: int = 50,
) -> ReidResult:
    r"""Evaluate features by the protocol of re-identification: Rank-k (CMC), mAP and mINP.

    Every query ranks the whole gallery. Gallery items with the query's identity *and* its camera are left out, if
    cameras are given: finding another frame of the same shot is no achievement. Queries without a match in what is
    left are counted and take no part in the means.

    .. math::
        AP = \frac{1}{n} \sum_{k=1}^{n} \frac{k}{r_k}, \qquad INP = \frac{n}{r_n}

    with :math:`r_k` the rank of the k-th of n matches.

    Args:
        query_embeddings: (Q, D), any scale; tensors on any device or numpy arrays, float16 to float64.
        gallery_embeddings: (G, D).
        query_ids: Identity of each query: integers or strings.
        gallery_ids: Identity of each gallery item, of the same kind; identities that no query has are distractors.
        query_cameras: Camera of each query; ``None`` (for both) leaves nothing out.
        gallery_cameras: Camera of each gallery item.
        similarity: ``"cosine"``, or ``"euclidean"`` for distances between the embeddings as they are.
        ties: A wrong item exactly as near as a match stands above it (``"pessimistic"``: a collapsed model scores
            near 0) or below it (``"optimistic"``). With distinct similarities both are the classical definition.
        max_rank: Length of the CMC curve; a gallery that is smaller shortens it.

    Returns:
        A :class:`ReidResult`. Ranks are those of the exact float64 similarities, so the result has the same bits on
        any machine, device and number of threads, and for any order of the gallery.

    Raises:
        ValueError: If widths, lengths or kinds of ids disagree, a set is empty, a row holds NaN or infinity (rows
            named), only one side has cameras, or no query has a valid match.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> result = evaluate_reid(gallery[:1], gallery, query_ids=[7], gallery_ids=[3, 7, 7])
        >>> result.rank(1), result.rank(2), round(result.mean_ap, 4), round(result.mean_inp, 4)
        (0.0, 1.0, 0.5833, 0.6667)

    References:
        Zheng et al., Scalable Person Re-identification (Market-1501), ICCV 2015, section 5. Ye et al., Deep Learning
        for Person Re-identification: A Survey and Outlook, TPAMI 2021, eq. 8 (mINP).
    """
    queries = _rows("query_embeddings", query_embeddings)
    gallery = _rows("gallery_embeddings", gallery_embeddings)
    check_same_width("evaluate_reid", "query_embeddings", queries, "gallery_embeddings", gallery)
    check_choice("evaluate_reid", "similarity", similarity, ("cosine", "euclidean"))
    check_choice("evaluate_reid", "ties", ties, ("pessimistic", "optimistic"))
    check_integer("evaluate_reid", "max_rank", max_rank, 1)
    num_queries, num_gallery = queries.shape[0], gallery.shape[0]
    query_codes, gallery_codes = _codes("ids", query_ids, num_queries, gallery_ids, num_gallery)
    same_identity = _rows_of_identity(query_codes, gallery_codes)
    positives = same_identity
    if (query_cameras is None) != (gallery_cameras is None):
        raise fail(
            "evaluate_reid",
            "cameras of both sides or of neither",
            "query_cameras only" if gallery_cameras is None else "gallery_cameras only",
            "Give both for the camera rule, or leave both out.",
        )
    if query_cameras is not None and gallery_cameras is not None:
        q_camera, g_camera = _codes("cameras", query_cameras, num_queries, gallery_cameras, num_gallery)
        positives = [rows[g_camera[rows] != q_camera[i]] for i, rows in enumerate(same_identity)]
    num_positives = np.array([len(rows) for rows in positives], dtype=np.int64)
    if not num_positives.any():
        raise _no_match(query_codes, gallery_codes, same_identity)

    counts = negatives_above(queries, gallery, same_identity, positives, similarity=similarity, ties=ties)
    average_precision, penalty = np.full(num_queries, np.nan), np.full(num_queries, np.nan)
    first_rank = np.zeros(num_queries, dtype=np.int64)
    for i, count in enumerate(counts):
        if len(count):
            found = np.arange(1, len(count) + 1)
            ranks = found + count
            average_precision[i] = math.fsum((found / ranks).tolist()) / len(count)
            penalty[i] = len(count) / ranks[-1]
            first_rank[i] = ranks[0]
    return ReidResult(average_precision, penalty, first_rank, num_positives, num_gallery, min(max_rank, num_gallery))


def _rows(name: str, embeddings: Tensor | npt.NDArray[Any]) -> Tensor:
    if isinstance(embeddings, Tensor):
        rows = embeddings.detach()
        rows = rows.cpu() if rows.device.type == "mps" else rows  # which has no float64
    else:
        array = np.asarray(embeddings)
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
            raise fail("evaluate_reid", f"{name} as numbers of at most 64 bits", f"{array.dtype}")
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        with warnings.catch_warnings():  # a read-only array (a memory-mapped file) is fine: nothing writes to it
            warnings.simplefilter("ignore", UserWarning)
            rows = torch.from_numpy(array)
    check_embeddings("evaluate_reid", name, rows)
    if rows.shape[0] == 0:
        raise fail("evaluate_reid", f"at least one row of {name}", "none", "Is the split empty?")
    bad = torch.nonzero(~torch.isfinite(rows).all(dim=1)).flatten()
    if bad.numel():
        raise fail(
            "evaluate_reid",
            f"finite {name}",
            f"NaN or infinity in {bad.numel()} of {rows.shape[0]} rows (first: {bad[:5].tolist()})",
            "Look at the images of these rows, and at the precision that they were encoded in.",
        )
    if rows.dtype == torch.float64:
        largest = rows.abs().amax(dim=1)
        beyond = torch.nonzero((largest > 1e140) | ((largest < 1e-140) & (largest > 0))).flatten()
        if beyond.numel():
            raise fail(
                "evaluate_reid",
                f"{name} whose squares are float64 numbers",
                f"magnitudes beyond 1e-140 to 1e140 in {beyond.numel()} rows (first: {beyond[:5].tolist()})",
                "Divide all embeddings by one common factor.",
            )
    return rows


def _codes(what: str, query: Ids, num_queries: int, gallery: Ids, num_gallery: int) -> tuple[IntArray, IntArray]:
    """Number the ids or cameras of both sides alike, from 0."""
    q, g = _flat("query_" + what, query, num_queries), _flat("gallery_" + what, gallery, num_gallery)
    if (q.dtype.kind == "U") != (g.dtype.kind == "U"):
        raise fail(
            "evaluate_reid",
            f"query_{what} and gallery_{what} of one kind",
            f"{'strings' if q.dtype.kind == 'U' else 'integers'} and "
            f"{'strings' if g.dtype.kind == 'U' else 'integers'}",
            "An identity '7' is not the identity 7: convert one side.",
        )
    if q.dtype.kind != "U" and q.dtype != g.dtype:  # uint64 and int64 would meet in float64, and lose digits
        q, g = q.astype(object), g.astype(object)
    codes = np.unique(np.concatenate([q, g]), return_inverse=True)[1].astype(np.int64)
    return codes[:num_queries], codes[num_queries:]


def _flat(name: str, values: Ids, length: int) -> npt.NDArray[Any]:
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(v, str) for v in array.flat):
        array = array.astype(str)
    if array.ndim != 1 or array.shape[0] != length:
        raise fail("evaluate_reid", f"{name} as {length} ids, one for each row", f"shape {array.shape}")
    if array.dtype.kind not in "iuU":
        raise fail(
            "evaluate_reid",
            f"{name} as integers or strings",
            f"{array.dtype}",
            "Give each identity and camera an integer or a name.",
        )
    if not isinstance(values, Tensor | np.ndarray) and len({isinstance(v, str) for v in values}) > 1:
        raise fail("evaluate_reid", f"{name} of one kind", "integers and strings mixed")
    return array


def _rows_of_identity(query_codes: IntArray, gallery_codes: IntArray) -> list[IntArray]:
    """For each query, the gallery rows with its identity."""
    order = np.argsort(gallery_codes, kind="stable")
    ascending = gallery_codes[order]
    begin = np.searchsorted(ascending, query_codes, side="left")
    end = np.searchsorted(ascending, query_codes, side="right")
    return [order[b:e] for b, e in zip(begin.tolist(), end.tolist(), strict=True)]


def _no_match(query_codes: IntArray, gallery_codes: IntArray, same_identity: list[IntArray]) -> ValueError:
    with_identity = sum(len(rows) > 0 for rows in same_identity)
    expected = "at least one query with a match in the gallery"
    if with_identity == 0:
        shown = f"{len(set(query_codes))} query identities, none among the {len(set(gallery_codes))} of the gallery"
        remedy = "Compare how the ids of the two sides were made: they have to be numbered or named alike."
        return fail("evaluate_reid", expected, shown, remedy)
    return fail(
        "evaluate_reid",
        expected,
        f"{with_identity} of {len(same_identity)} queries with their identity in the gallery, every match of which "
        "has the query's own camera and is left out by the camera rule",
        "If the cameras are unknown, leave query_cameras and gallery_cameras out.",
    )
