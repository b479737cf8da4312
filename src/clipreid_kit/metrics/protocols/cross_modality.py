"""Search across modalities or views: RegDB, AG-ReID, CARGO, and columns of your own."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_choice, fail
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids, encode_ids, id_array
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._drawn_shots import read_sides
from clipreid_kit.metrics.protocols._evaluate_sides import Rerank, check_protocol_options
from clipreid_kit.metrics.protocols._query_groups import QueryGroup, evaluate_groups
from clipreid_kit.metrics.results.reid_result import ReidResult

IntArray = npt.NDArray[np.int64]
_OWNER = "CrossModalityProtocol"


@dataclass(frozen=True, slots=True)
class CrossModalityProtocol:
    """Queries of one modality or view, and a gallery of another: RegDB, AG-ReID, CARGO.

    The rule: a query ranks the gallery rows of *other* modalities than its own. With names, only
    queries of one modality are evaluated, against the gallery rows of one: thermal to visible and
    visible to thermal of RegDB, aerial to ground and ground to aerial of AG-ReID. Any column of
    names does: modalities, views, or platforms, two or more.

    The A<->G protocol of CARGO leaves only the matches of the query's own view out, and wrong
    images of that view stay: ``same="distractors"``.

    Args:
        query: Modality of the queries; ``None`` evaluates all.
        gallery: Modality of the gallery, which may be the query's own; ``None`` for all others.
        same: Gallery rows of the query's own modality are ``"left_out"``, or wrong ones stay as
            ``"distractors"``; only without ``gallery``.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        rerank: See :class:`Market1501Protocol`; each modality of queries is re-ranked separately.

    Example:
        >>> import torch
        >>> gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.8]])
        >>> columns = dict(
        ...     query_ids=[7], gallery_ids=[7, 3, 7], query_modalities=["aerial"],
        ...     gallery_modalities=["aerial", "aerial", "ground"])
        >>> CrossModalityProtocol("aerial", "ground").evaluate(
        ...     gallery[:1], gallery, **columns).first_rank.tolist()
        [1]
        >>> CrossModalityProtocol(same="distractors").evaluate(
        ...     gallery[:1], gallery, **columns).first_rank.tolist()
        [2]

    References:
        Nguyen et al., Person Recognition System Based on a Combination of Body Images from Visible
        Light and Thermal Cameras, Sensors 2017 (RegDB). Nguyen et al., Aerial-Ground Person Re-ID,
        ICME 2023 (AG-ReID). Zhang et al., View-decoupled Transformer for Person Re-identification
        under Aerial-ground Camera Network, CVPR 2024 (CARGO).
    """

    query: str | None = None
    gallery: str | None = None
    same: Literal["left_out", "distractors"] = "left_out"
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        check_choice(_OWNER, "same", self.same, ("left_out", "distractors"))
        check_protocol_options(_OWNER, self.distance, self.ties, self.max_rank, self.rerank)
        if self.gallery is not None and self.same == "distractors":
            raise ValueError(
                f"{_OWNER}: same='distractors' has no effect with a named gallery; pass one of "
                "them."
            )

    def evaluate(
        self,
        query_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        gallery_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        query_ids: Ids,
        gallery_ids: Ids,
        query_modalities: Ids,
        gallery_modalities: Ids,
        query_cameras: Ids | None = None,
        gallery_cameras: Ids | None = None,
    ) -> ReidResult:
        """Evaluate embeddings, with the modality of each row; arguments as for others.

        Args:
            query_embeddings: (Q, D), any scale.
            gallery_embeddings: (G, D).
            query_ids: Identity of each query.
            gallery_ids: Identity of each gallery row.
            query_modalities: Modality, or view, of each query.
            gallery_modalities: Of each gallery row.
            query_cameras: Camera of each query: images of its identity and camera are left out.
                ``None`` (for both sides) leaves nothing out.
            gallery_cameras: Camera of each gallery row.

        Returns:
            The result of the queries of the named modality, or of all, in their order.

        Raises:
            ValueError: If no row has a named modality, or no query has a match, and as
                :func:`evaluate_reid`.
        """
        if (query_cameras is None) != (gallery_cameras is None):
            raise fail(_OWNER, "cameras of both sides or of neither", "those of one side")
        cameras = None
        if query_cameras is not None and gallery_cameras is not None:
            cameras = query_cameras, gallery_cameras

        embeddings = query_embeddings, gallery_embeddings
        sides = read_sides(_OWNER, embeddings, (query_ids, gallery_ids), cameras)
        shape = len(sides.queries), len(sides.gallery)
        modalities = encode_ids(
            _OWNER, (query_modalities, gallery_modalities), shape, column="modalities"
        )
        names = (
            id_array(_OWNER, "query_modalities", query_modalities, shape[0]).astype(str),
            id_array(_OWNER, "gallery_modalities", gallery_modalities, shape[1]).astype(str),
        )

        if self.same == "distractors":
            sides = sides._replace(exclude=[*sides.exclude, modalities])
        groups = self._groups(modalities, names)
        if not any(sides.has_match(*group) for group in groups):
            raise ValueError(
                f"{_OWNER}: no query has a match in the gallery that it ranks. Check how ids and "
                "modalities of both sides were made."
            )

        result = evaluate_groups(sides, groups, self, self.rerank)
        return result if self.query is None else _only(result, groups[0].queries)

    def _groups(
        self,
        modalities: tuple[IntArray, IntArray],
        names: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    ) -> list[QueryGroup]:
        """The queries of each modality, and the gallery rows that they rank."""
        of_queries, of_gallery = modalities
        is_query = _rows_of("query", self.query, names[0])
        is_gallery = _rows_of("gallery", self.gallery, names[1])

        groups = []
        for modality in np.unique(of_queries[is_query]).tolist():
            ranked = is_gallery
            if self.gallery is None and self.same == "left_out":
                ranked = of_gallery != modality
            queries = np.flatnonzero(is_query & (of_queries == modality))
            groups.append(QueryGroup(queries, np.flatnonzero(ranked)))
        return groups


def _rows_of(side: str, name: str | None, names: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether a row has a modality; all have if none is named."""
    if name is None:
        return np.ones(len(names), dtype=bool)

    found: npt.NDArray[np.bool_] = names == name
    if not found.any():
        known = ", ".join(sorted(set(names.tolist()))[:10])
        raise ValueError(
            f"{_OWNER}: no row of {side}_modalities is {name!r}; there are {known}. Correct {side}."
        )
    return found


def _only(result: ReidResult, rows: IntArray) -> ReidResult:
    """The result of some of the queries."""
    return ReidResult(
        result.average_precision[rows],
        result.inverse_negative_penalty[rows],
        result.first_rank[rows],
        result.num_positives[rows],
        num_gallery=result.num_gallery,
        max_rank=result.max_rank,
        query_ids=None if result.query_ids is None else result.query_ids[rows],
    )
