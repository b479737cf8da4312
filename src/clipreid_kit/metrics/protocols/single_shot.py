"""The single-shot protocol of CUHK03: random galleries of one image by another camera."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._similarity.embedding_rows import check_same_dim
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids, encode_ids, id_array
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._evaluate_sides import (
    Rerank,
    check_cameras,
    check_protocol_options,
)
from clipreid_kit.metrics.protocols._query_groups import QueryGroup, Sides, evaluate_groups
from clipreid_kit.metrics.protocols._random_draws import (
    check_all_rows,
    check_draws,
    draw_one_each,
)
from clipreid_kit.metrics.results.split_results import SplitResults

IntArray = npt.NDArray[np.int64]
_OWNER = "CUHK03Protocol"


@dataclass(frozen=True, slots=True)
class CUHK03Protocol:
    """Single gallery shot: CUHK03 with its first protocol.

    Its later 767/700 split is evaluated by :class:`Market1501Protocol`.

    The rule: the queries of a camera rank images of *other cameras* only, one of every identity,
    drawn at random; so a query has at most one match, and AP is 1 / rank. All queries of one camera
    see the same gallery in one draw. The result holds mean and spread over the draws. Whether a
    query has a match at all is the same in every draw.

    Args:
        num_splits: Number of times that galleries are drawn.
        seed: Seed of a separate generator.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        rerank: See :class:`Market1501Protocol`; each camera of each draw is re-ranked separately.

    Example:
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
        >>> results = CUHK03Protocol(num_splits=5).evaluate(
        ...     gallery[:1], gallery, query_ids=[7], gallery_ids=[7, 7, 7, 3],
        ...     query_cameras=[1], gallery_cameras=[1, 2, 2, 2])
        >>> results.rank(1), results.results[0].num_gallery
        (1.0, 2)

    References:
        Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR
        2014, section 5.
    """

    num_splits: int = 100
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        check_protocol_options(_OWNER, self.distance, self.ties, self.max_rank, self.rerank)
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
        """Evaluate embeddings; arguments as for :func:`evaluate_reid`, cameras required.

        ``num_gallery`` of a result is the size of the largest gallery of a camera.

        Raises:
            ValueError: As :func:`evaluate_reid`.
        """
        check_cameras(
            _OWNER, query_cameras, gallery_cameras, "Galleries are drawn from other cameras."
        )
        queries = check_all_rows(_OWNER, "query_embeddings", query_embeddings, None)
        gallery = check_all_rows(_OWNER, "gallery_embeddings", gallery_embeddings, queries.device)
        check_same_dim(_OWNER, queries, gallery)

        shape = len(queries), len(gallery)
        ids = encode_ids(_OWNER, (query_ids, gallery_ids), shape)
        cameras = encode_ids(_OWNER, (query_cameras, gallery_cameras), shape, column="cameras")
        _check_has_match(ids, cameras)

        named_ids = id_array(_OWNER, "query_ids", query_ids, len(queries))
        generator = torch.Generator().manual_seed(self.seed)
        sides = Sides(queries, gallery, ids, (), named_ids)
        results = [
            evaluate_groups(sides, _drawn_groups(ids[1], cameras, generator), self, self.rerank)
            for _ in range(self.num_splits)
        ]

        name = f"CUHK03 single shot, {self.num_splits} draws (seed {self.seed})"
        if self.rerank is not None:
            name += ", re-ranked"
        return SplitResults(tuple(results), name)


def _drawn_groups(
    gallery_ids: IntArray, cameras: tuple[IntArray, IntArray], generator: torch.Generator
) -> Iterator[QueryGroup]:
    """Draw one gallery for the queries of each camera."""
    query_cameras, gallery_cameras = cameras
    for camera in np.unique(query_cameras).tolist():
        others = np.flatnonzero(gallery_cameras != camera)
        drawn = others[draw_one_each(gallery_ids[others], generator)]
        yield QueryGroup(np.flatnonzero(query_cameras == camera), drawn)


def _check_has_match(ids: tuple[IntArray, IntArray], cameras: tuple[IntArray, IntArray]) -> None:
    """Require a query whose identity is in the gallery by another camera."""
    for camera in np.unique(cameras[0]).tolist():
        own_ids = ids[0][cameras[0] == camera]
        other_ids = ids[1][cameras[1] != camera]
        if np.isin(own_ids, other_ids).any():
            return

    num_with_identity = int(np.isin(ids[0], ids[1]).sum())
    raise ValueError(
        f"{_OWNER}: no query has a match: {num_with_identity} of {len(ids[0])} queries have their "
        "identity in the gallery, none by another camera. Check how ids and cameras of both sides "
        "were made."
    )
