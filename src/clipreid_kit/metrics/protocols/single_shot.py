"""The protocol of CUHK03: one gallery image of every identity, by other cameras, drawn many times."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit.metrics._engine.embedding_rows import Rows, check_widths
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.identity_matches import Ids, flat, read_ids
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols.fixed_gallery import (
    Rerank,
    check_cameras,
    check_protocol,
    evaluate_sides,
)
from clipreid_kit.metrics.protocols.random_gallery import check_draws, checked_rows, draw_one_each
from clipreid_kit.metrics.results.reid_result import ReidResult
from clipreid_kit.metrics.results.split_results import SplitResults

IntArray = npt.NDArray[np.int64]
_OWNER = "CUHK03Protocol"


@dataclass(frozen=True, slots=True)
class CUHK03Protocol:
    """Single gallery shot: CUHK03 as it was first used (its later 767/700 split is :class:`Market1501Protocol`).

    The rule: the queries of a camera rank images of *other cameras* only, one of every identity, drawn at random; so a
    query has one match at most, and AP is 1 / rank. All queries of one camera see the same gallery in one draw.
    Reported are mean and spread over the draws. Whether a query has a match at all is the same in every draw.

    Args:
        num_splits: How many times the galleries are drawn.
        seed: Of a generator of its own.
        distance: As for :func:`evaluate_reid`.
        ties: As for :func:`evaluate_reid`.
        max_rank: As for :func:`evaluate_reid`.
        rerank: As for :class:`Market1501Protocol`; each camera of each draw is re-ranked by itself.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
        >>> results = CUHK03Protocol(num_splits=5).evaluate(
        ...     gallery[:1], gallery, query_ids=[7], gallery_ids=[7, 7, 7, 3],
        ...     query_cameras=[1], gallery_cameras=[1, 2, 2, 2])
        >>> results.rank(1), results.results[0].num_gallery
        (1.0, 2)

    References:
        Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR 2014, section 5.
    """

    num_splits: int = 100
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        check_protocol(_OWNER, self.distance, self.ties, self.max_rank, self.rerank)
        check_draws(_OWNER, self.num_splits, self.seed)

    def evaluate(
        self,
        query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        query_ids: Ids,
        gallery_ids: Ids,
        query_cameras: Ids,
        gallery_cameras: Ids,
    ) -> SplitResults:
        """Evaluate; arguments as for :func:`evaluate_reid`, cameras required.

        ``num_gallery`` of a result is the largest gallery that a camera had.

        Raises:
            ValueError: As :func:`evaluate_reid`.
        """
        check_cameras(_OWNER, query_cameras, gallery_cameras, "Galleries are made by camera.")
        queries = checked_rows(_OWNER, "query_embeddings", query_embeddings, None)
        gallery = checked_rows(_OWNER, "gallery_embeddings", gallery_embeddings, queries.device)
        check_widths(_OWNER, queries, gallery)
        sizes = len(queries), len(gallery)
        ids = read_ids(_OWNER, (query_ids, gallery_ids), sizes)
        cameras = read_ids(_OWNER, (query_cameras, gallery_cameras), sizes, name="cameras")
        found = [
            set(ids[1][cameras[1] != camera].tolist())
            for camera in range(int(cameras[0].max()) + 1)
        ]
        if not any(
            code in found[camera]
            for code, camera in zip(*(x.tolist() for x in (ids[0], cameras[0])), strict=True)
        ):
            both = int(np.isin(ids[0], ids[1]).sum())
            raise fail(
                _OWNER,
                "at least one query with a match by another camera",
                f"{both} of {sizes[0]} queries with their identity in the gallery, none by another camera",
                "Compare how ids and cameras of the two sides were made.",
            )
        generator = torch.Generator().manual_seed(self.seed)
        named = flat(_OWNER, "query_ids", query_ids, sizes[0])
        results = [
            self._draw(queries, gallery, ids, cameras, named, generator)
            for _ in range(self.num_splits)
        ]
        name = f"CUHK03 single shot, {self.num_splits} draws (seed {self.seed}){', re-ranked' if self.rerank else ''}"
        return SplitResults(tuple(results), name)

    def _draw(
        self,
        queries: Rows,
        gallery: Rows,
        ids: tuple[IntArray, IntArray],
        cameras: tuple[IntArray, IntArray],
        named: npt.NDArray[np.generic],
        generator: torch.Generator,
    ) -> ReidResult:
        """One gallery for the queries of each camera; the results in the order of the queries."""
        precision, penalty = np.full((2, len(queries)), np.nan)
        first_rank = np.zeros(len(queries))
        positives = np.zeros(len(queries), dtype=np.int64)
        largest = 0
        for camera in np.unique(cameras[0]).tolist():
            own = np.flatnonzero(cameras[0] == camera)
            others = np.flatnonzero(cameras[1] != camera)
            drawn = others[draw_one_each(ids[1][others], generator)]
            largest = max(largest, len(drawn))
            if not np.isin(ids[0][own], ids[1][drawn]).any():  # which evaluate_reid has as an error
                continue
            result = evaluate_sides(
                queries.take(own),
                gallery.take(drawn),
                self.rerank,
                query_ids=ids[0][own],
                gallery_ids=ids[1][drawn],
                distance=self.distance,
                ties=self.ties,
                max_rank=self.max_rank,
            )
            precision[own], penalty[own] = result.average_precision, result.inverse_negative_penalty
            first_rank[own], positives[own] = result.first_rank, result.num_positives
        first = first_rank if self.ties == "mean" else first_rank.astype(np.int64)
        return ReidResult(
            precision, penalty, first, positives, largest, min(self.max_rank, largest), named
        )
