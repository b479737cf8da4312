"""Protocols with one fixed gallery: Market-1501, In-shop, leave-one-out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._similarity.as_array import as_array
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids, check_junk_ids
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._evaluate_sides import (
    Rerank,
    check_cameras,
    check_protocol_options,
    evaluate_sides,
)
from clipreid_kit.metrics.reid import evaluate_reid
from clipreid_kit.metrics.results.reid_result import ReidResult


@dataclass(frozen=True, slots=True)
class Market1501Protocol:
    """Search across cameras: Market-1501, DukeMTMC-reID, MSMT17, VeRi-776 and most later datasets.

    The rule: every query ranks the whole gallery, except for images of the query's identity *by the
    query's camera*, and for all images of a junk identity (in Market-1501 -1: boxes without a whole
    person). Distractors stay: identities that no query has (in Market-1501 the number 0, on many
    different people). Images of *other* identities by the query's camera stay, too. A query without
    a match in the rest is counted, but no mean includes it.

    Args:
        junk_ids: Identities that are left out of every ranking; converted to strings if the
            identities are strings.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        rerank: Function of (query embeddings, gallery embeddings) that returns a re-ranker, such as
            :class:`KReciprocalReranker` itself; ``None`` for plain distances. Report it with the
            result.

    Example:
        >>> import torch
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.8], [0.0, 1.0]])
        >>> result = Market1501Protocol().evaluate(
        ...     gallery[:1], gallery, query_ids=[7], gallery_ids=[7, -1, 0, 7],
        ...     query_cameras=[1], gallery_cameras=[1, 2, 2, 2])
        >>> # the image by camera 1 and the junk are left out; the match is behind the distractor
        >>> result.first_rank.tolist(), result.num_gallery
        ([2], 3)

    References:
        Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.
    """

    junk_ids: Sequence[int] | Sequence[str] = (-1,)
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        owner = "Market1501Protocol"
        check_junk_ids(owner, self.junk_ids)
        check_protocol_options(owner, self.distance, self.ties, self.max_rank, self.rerank)

    def evaluate(
        self,
        query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        query_ids: Ids,
        gallery_ids: Ids,
        query_cameras: Ids,
        gallery_cameras: Ids,
    ) -> ReidResult:
        """Evaluate embeddings; arguments as for :func:`evaluate_reid`, cameras required."""
        check_cameras(
            "Market1501Protocol",
            query_cameras,
            gallery_cameras,
            "For data without cameras use InShopProtocol.",
        )

        return evaluate_sides(
            query_embeddings,
            gallery_embeddings,
            self.rerank,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            query_cameras=query_cameras,
            gallery_cameras=gallery_cameras,
            junk_ids=self._junk_ids_like(gallery_ids),
            distance=self.distance,
            ties=self.ties,
            max_rank=self.max_rank,
        )

    def _junk_ids_like(self, gallery_ids: Ids) -> Sequence[int] | Sequence[str]:
        """Return the junk ids, as strings if the ids of the gallery are."""
        if isinstance(gallery_ids, Tensor):
            return self.junk_ids
        array = as_array("Market1501Protocol", "gallery_ids", gallery_ids)
        if array.dtype.kind not in "UO":
            return self.junk_ids
        return tuple(str(junk) for junk in self.junk_ids)


@dataclass(frozen=True, slots=True)
class InShopProtocol:
    """Queries and a gallery without cameras: DeepFashion In-shop, and product search in general.

    The rule: every query ranks the whole gallery, and nothing is left out. Recall@k of the papers
    is ``rank(k)``: the share of queries with *any* right image among the first k. No image may be
    in both
    sets: it would find itself.

    Args:
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        rerank: See :class:`Market1501Protocol`.

    Example:
        >>> import torch
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> query = torch.tensor([[0.8, 0.2]])
        >>> result = InShopProtocol().evaluate(
        ...     query, gallery, query_ids=["id_7"], gallery_ids=["id_7", "id_3", "id_7"])
        >>> result.rank(1), result.rank(2)
        (0.0, 1.0)

    References:
        Liu et al., DeepFashion, CVPR 2016, section 4.2.
    """

    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        check_protocol_options(
            "InShopProtocol", self.distance, self.ties, self.max_rank, self.rerank
        )

    def evaluate(
        self,
        query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        query_ids: Ids,
        gallery_ids: Ids,
    ) -> ReidResult:
        """Evaluate embeddings; arguments as for :func:`evaluate_reid`."""
        return evaluate_sides(
            query_embeddings,
            gallery_embeddings,
            self.rerank,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            distance=self.distance,
            ties=self.ties,
            max_rank=self.max_rank,
        )


@dataclass(frozen=True, slots=True)
class LeaveOneOutProtocol:
    """One set that is query and gallery at once: Stanford Online Products, CUB-200, Cars-196.

    The rule: every image ranks all *other* images. It is left out of its own ranking; a copy of it
    in another row is not. An image that is the only one of its identity has no match: it is
    counted, but no mean includes it. Recall@k of the papers is ``rank(k)``.

    Args:
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
        >>> result = LeaveOneOutProtocol().evaluate(rows, [3, 3, 5, 8])
        >>> result.rank(1), result.num_valid_queries, result.num_queries
        (1.0, 2, 4)

    References:
        Oh Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016,
        section 6.
    """

    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50

    def __post_init__(self) -> None:
        check_protocol_options("LeaveOneOutProtocol", self.distance, self.ties, self.max_rank, None)

    def evaluate(
        self, embeddings: Float[Tensor, "n d"] | Float[np.ndarray, "n d"], ids: Ids
    ) -> ReidResult:
        """Evaluate (N, D) embeddings with an identity for each row."""
        return evaluate_reid(
            embeddings,
            query_ids=ids,
            distance=self.distance,
            ties=self.ties,
            max_rank=self.max_rank,
        )
