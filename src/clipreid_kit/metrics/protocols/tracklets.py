"""Protocol of tracklets: MARS, iLIDS-VID, LS-VID, and stills of which several show one person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids, check_junk_ids
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._evaluate_sides import Rerank, check_protocol_options
from clipreid_kit.metrics.protocols.fixed_gallery import InShopProtocol, Market1501Protocol
from clipreid_kit.metrics.results.reid_result import ReidResult
from clipreid_kit.metrics.tracklet_pooling import Pool, one_of_each, pool_tracklets

_OWNER = "TrackletProtocol"


@dataclass(frozen=True, slots=True)
class TrackletProtocol:
    """Search for tracklets with tracklets: MARS and most later sets of video.

    The rule: the frames of each tracklet are pooled to one embedding, and every query tracklet
    ranks all gallery tracklets by the rule of :class:`Market1501Protocol`: except for those of its
    identity *by its camera*, and those of a junk identity (in MARS -1). A long tracklet counts as
    much as a short one. A tracklet that is query and gallery at once never finds itself, as its
    camera is its own. Without cameras nothing is left out, as in :class:`InShopProtocol`.

    The same rule serves for stills: name all images of one person by one camera a tracklet, as
    :func:`group_stills` does.

    Args:
        junk_ids: Identities that are left out of every ranking; converted to strings if the
            identities are strings. Without cameras they stay.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        rerank: See :class:`Market1501Protocol`; it sees tracklets.
        pool: How frames are pooled; see :func:`pool_tracklets`. ``None`` takes their mean.

    Example:
        >>> import torch
        >>> query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # one tracklet, with the mean (0.5, 0.5)
        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.6], [0.8, 0.6]])
        >>> result = TrackletProtocol().evaluate(
        ...     query, gallery, query_tracklets=[0, 0], gallery_tracklets=["a", "b", "b"],
        ...     query_ids=[7, 7], gallery_ids=[3, 7, 7],
        ...     query_cameras=[1, 1], gallery_cameras=[2, 2, 2])
        >>> result.rank(1), result.num_queries, result.num_gallery
        (1.0, 1, 2)

    References:
        Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-identification, ECCV 2016,
        section 3.3.
    """

    junk_ids: Sequence[int] | Sequence[str] = (-1,)
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None
    pool: Pool | None = None

    def __post_init__(self) -> None:
        check_junk_ids(_OWNER, self.junk_ids)
        check_protocol_options(_OWNER, self.distance, self.ties, self.max_rank, self.rerank)

    def evaluate(
        self,
        query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        query_tracklets: Ids,
        gallery_tracklets: Ids,
        query_ids: Ids,
        gallery_ids: Ids,
        query_cameras: Ids | None = None,
        gallery_cameras: Ids | None = None,
    ) -> ReidResult:
        """Evaluate embeddings of frames.

        Args:
            query_embeddings: Embedding of each frame of the queries, those of a tracklet in their
                order.
            gallery_embeddings: The same of the gallery.
            query_tracklets: Tracklet of each row: integers or names. Names of the gallery are
                others, also where they are the same.
            gallery_tracklets: The same of the gallery.
            query_ids: Identity of each row.
            gallery_ids: The same of the gallery.
            query_cameras: Camera of each row; ``None`` together with ``gallery_cameras``.
            gallery_cameras: The same of the gallery.

        Returns:
            The result, whose queries and gallery items are tracklets.

        Raises:
            ValueError: If a tracklet has rows of two identities or two cameras, cameras are given
                for one side alone, or as :func:`evaluate_reid`.
        """
        query = pool_tracklets(query_embeddings, query_tracklets, self.pool)
        gallery = pool_tracklets(gallery_embeddings, gallery_tracklets, self.pool)
        columns = {
            "query_ids": one_of_each(_OWNER, "query_ids", query_ids, query_tracklets),
            "gallery_ids": one_of_each(_OWNER, "gallery_ids", gallery_ids, gallery_tracklets),
        }

        if query_cameras is None and gallery_cameras is None:
            plain = InShopProtocol(self.distance, self.ties, self.max_rank, self.rerank)
            return plain.evaluate(query.embeddings, gallery.embeddings, **columns)

        if query_cameras is None or gallery_cameras is None:
            raise ValueError(
                f"{_OWNER}: cameras are given for one side alone; pass query_cameras and "
                "gallery_cameras, or neither."
            )
        by_camera = Market1501Protocol(
            self.junk_ids, self.distance, self.ties, self.max_rank, self.rerank
        )
        return by_camera.evaluate(
            query.embeddings,
            gallery.embeddings,
            query_cameras=one_of_each(_OWNER, "query_cameras", query_cameras, query_tracklets),
            gallery_cameras=one_of_each(
                _OWNER, "gallery_cameras", gallery_cameras, gallery_tracklets
            ),
            **columns,
        )
