"""Protocols with one fixed gallery, under the names of the papers: Market-1501, In-shop, leave-one-out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit.metrics._engine.embedding_rows import Rows, as_array
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.identity_matches import Ids, check_junk
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.reid import check_options, evaluate_reid
from clipreid_kit.metrics.reranking.k_reciprocal import KReciprocalReranker
from clipreid_kit.metrics.results.reid_result import ReidResult

Rerank = Callable[[Tensor, Tensor], KReciprocalReranker]


@dataclass(frozen=True, slots=True)
class Market1501Protocol:
    """Search across cameras: Market-1501, DukeMTMC-reID, MSMT17, VeRi-776 and most sets since.

    The rule: every query ranks the whole gallery. Left out are gallery images of the query's identity *by the query's
    camera*, and all images of a junk identity (in Market-1501 -1: boxes that show no whole person). Distractors stay:
    identities that no query has (in Market-1501 the number 0 on many different people). Images of *other* identities
    by the query's camera stay, too. A query without a match in what is left is counted and takes no part in the means.

    Args:
        junk_ids: Identities that stand in no ranking. For identities that are strings they are taken as strings.
        distance: As for :func:`evaluate_reid`.
        ties: As for :func:`evaluate_reid`.
        max_rank: As for :func:`evaluate_reid`.
        rerank: Makes a re-ranker of (query embeddings, gallery embeddings), such as :class:`KReciprocalReranker`
            itself; ``None`` for plain distances. Say so beside the number.

    Example:
        >>> import torch
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.8], [0.0, 1.0]])
        >>> result = Market1501Protocol().evaluate(
        ...     gallery[:1], gallery, query_ids=[7], gallery_ids=[7, -1, 0, 7],
        ...     query_cameras=[1], gallery_cameras=[1, 2, 2, 2])
        >>> result.first_rank.tolist(), result.num_gallery  # one frame of camera 1 and the junk are gone
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
        check_junk("Market1501Protocol", self.junk_ids)
        check_protocol("Market1501Protocol", self.distance, self.ties, self.max_rank, self.rerank)

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
        """Evaluate; arguments as for :func:`evaluate_reid`, cameras required."""
        check_cameras(
            "Market1501Protocol",
            query_cameras,
            gallery_cameras,
            "Without any there is InShopProtocol.",
        )
        named = (
            not isinstance(gallery_ids, Tensor)
            and as_array("Market1501Protocol", "gallery_ids", gallery_ids).dtype.kind in "UO"
        )
        return evaluate_sides(
            query_embeddings,
            gallery_embeddings,
            self.rerank,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            query_cameras=query_cameras,
            gallery_cameras=gallery_cameras,
            junk_ids=tuple(str(junk) for junk in self.junk_ids) if named else self.junk_ids,
            distance=self.distance,
            ties=self.ties,
            max_rank=self.max_rank,
        )


@dataclass(frozen=True, slots=True)
class InShopProtocol:
    """Queries and a gallery without cameras: DeepFashion In-shop, and product search in general.

    The rule: every query ranks the whole gallery, and nothing is left out. Recall@k of the papers is ``rank(k)``: the
    share of queries with *any* right image among the first k. No image may be in both sets: it would find itself.

    Args:
        distance: As for :func:`evaluate_reid`.
        ties: As for :func:`evaluate_reid`.
        max_rank: As for :func:`evaluate_reid`.
        rerank: As for :class:`Market1501Protocol`.

    Example:
        >>> import torch
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> query = torch.tensor([[0.8, 0.2]])
        >>> InShopProtocol().evaluate(query, gallery, query_ids=["id_7"], gallery_ids=["id_7", "id_3", "id_7"]).rank(2)
        1.0

    References:
        Liu et al., DeepFashion, CVPR 2016, section 4.2.
    """

    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        check_protocol("InShopProtocol", self.distance, self.ties, self.max_rank, self.rerank)

    def evaluate(
        self,
        query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        query_ids: Ids,
        gallery_ids: Ids,
    ) -> ReidResult:
        """Evaluate; arguments as for :func:`evaluate_reid`."""
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
    """One set of images that is query and gallery at once: Stanford Online Products, CUB-200, Cars-196.

    The rule: every image ranks all *other* images. It stands in no ranking of its own; a copy of it in another row
    does. An image that is the only one of its identity has no match: it is counted, and takes no part in the means.
    Recall@k of the papers is ``rank(k)``.

    Args:
        distance: As for :func:`evaluate_reid`.
        ties: As for :func:`evaluate_reid`.
        max_rank: As for :func:`evaluate_reid`.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
        >>> result = LeaveOneOutProtocol().evaluate(rows, [3, 3, 5, 8])
        >>> result.rank(1), result.num_valid_queries, result.num_queries
        (1.0, 2, 4)

    References:
        Oh Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016, section 6.
    """

    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50

    def __post_init__(self) -> None:
        check_protocol("LeaveOneOutProtocol", self.distance, self.ties, self.max_rank, None)

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


def check_protocol(
    owner: str, distance: Distance, ties: Ties, max_rank: int, rerank: Rerank | None
) -> None:
    """Check the options that all protocols have."""
    check_options(owner, distance, ties, max_rank)
    if rerank is not None and not callable(rerank):
        raise fail(owner, "rerank as a function such as KReciprocalReranker, or None", repr(rerank))
    if rerank is not None and distance != "cosine":
        remedy = "Give it to the re-ranker: functools.partial(KReciprocalReranker, distance='euclidean')."
        raise fail(owner, "distance or rerank", "both", remedy)


def check_cameras(
    owner: str, query_cameras: Ids | None, gallery_cameras: Ids | None, remedy: str
) -> None:
    """Require cameras: without them the rule would silently be another."""
    if query_cameras is None or gallery_cameras is None:
        raise fail(owner, "query_cameras and gallery_cameras", "None", remedy)


def evaluate_sides(
    queries: Tensor | npt.NDArray[Any],
    gallery: Tensor | npt.NDArray[Any],
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
) -> ReidResult:
    """Evaluate two sides by plain distances, or re-ranked."""
    similarity = None
    if rerank is not None:
        rows = Rows("evaluate_reid", "query_embeddings", queries)
        others = Rows("evaluate_reid", "gallery_embeddings", gallery, rows.device)
        similarity = rerank(rows.block(0, len(rows)), others.block(0, len(others)))
        if not isinstance(
            similarity, KReciprocalReranker
        ):  # a matrix of distances would be ranked upside down
            raise fail(
                "evaluate_reid", "a KReciprocalReranker from rerank", type(similarity).__name__
            )
    return evaluate_reid(
        None if rerank is not None else queries,
        None if rerank is not None else gallery,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        exclude=exclude,
        junk_ids=junk_ids,
        distance=distance,
        similarity=similarity,
        ties=ties,
        max_rank=max_rank,
    )
