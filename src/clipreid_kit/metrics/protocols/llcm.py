"""The protocol of LLCM: one drawn gallery image of each identity and camera."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids, encode_array, id_array
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._drawn_shots import draw_shots, evaluate_shots, read_sides
from clipreid_kit.metrics.protocols._evaluate_sides import check_cameras, check_protocol_options
from clipreid_kit.metrics.protocols._query_groups import QueryGroup
from clipreid_kit.metrics.protocols._random_draws import check_draws
from clipreid_kit.metrics.results.split_results import SplitResults

_OWNER = "LLCMProtocol"


@dataclass(frozen=True, slots=True)
class LLCMProtocol:
    """Queries of one modality, drawn galleries of the other: LLCM, in both directions.

    The rule: every image of one modality is a query; of each identity and camera of the other one
    image is drawn into the gallery, ten times. Gallery images of the query's identity and camera
    are left out. Rank-k counts identities, as for :class:`SysuMM01Protocol`; AP and INP count
    images.

    Args:
        num_splits: Number of galleries that are drawn.
        seed: See :class:`SysuMM01Protocol`.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.

    Example:
        >>> import torch
        >>> gallery = torch.tensor([[1.0, 0.1], [1.0, 0.3], [0.5, 1.0]])
        >>> results = LLCMProtocol(num_splits=2).evaluate(
        ...     torch.tensor([[1.0, 0.0]]), gallery, query_ids=[7], gallery_ids=[7, 3, 7],
        ...     query_cameras=[1], gallery_cameras=[1, 1, 2])
        >>> results.rank(1), results.rank(2)
        (0.0, 1.0)

    References:
        Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark
        for Visible-Infrared Person Re-identification, CVPR 2023, and its code.
    """

    num_splits: int = 10
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50

    def __post_init__(self) -> None:
        check_draws(_OWNER, self.num_splits, self.seed)
        check_protocol_options(_OWNER, self.distance, self.ties, self.max_rank, None)

    def draws(self, gallery_ids: Ids, gallery_cameras: Ids) -> Iterator[npt.NDArray[np.int64]]:
        """Draw the galleries, each as ascending rows."""
        ids = encode_array(id_array(_OWNER, "gallery_ids", gallery_ids, len(gallery_ids)))
        cameras = encode_array(id_array(_OWNER, "gallery_cameras", gallery_cameras, len(ids)))
        return draw_shots(ids, cameras, 1, self.num_splits, self.seed)

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
        """Evaluate embeddings of all queries, and of all images that galleries are drawn from.

        Raises:
            ValueError: As :func:`evaluate_reid`, or if no query has a match.
        """
        check_cameras(_OWNER, query_cameras, gallery_cameras, "Galleries are drawn by camera.")
        sides = read_sides(
            _OWNER,
            (query_embeddings, gallery_embeddings),
            (query_ids, gallery_ids),
            (query_cameras, gallery_cameras),
        )

        everyone = np.arange(len(sides.queries))
        galleries = self.draws(gallery_ids, gallery_cameras)
        draws = [[QueryGroup(everyone, rows)] for rows in galleries]
        results = evaluate_shots(_OWNER, sides, draws, self)
        return SplitResults(
            tuple(results), f"LLCM single-shot, {self.num_splits} draws (seed {self.seed})"
        )
