"""Protocol of text-to-person retrieval: CUHK-PEDES, ICFG-PEDES, RSTPReid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._evaluate_sides import check_protocol_options
from clipreid_kit.metrics.reid import evaluate_reid
from clipreid_kit.metrics.results.reid_result import ReidResult


@dataclass(frozen=True, slots=True)
class TextToPersonProtocol:
    """Search for a person by a sentence: CUHK-PEDES, ICFG-PEDES, RSTPReid.

    The rule: every caption of every test image is a query, and ranks all test images, each of them
    once. An image of the person that the caption describes is a match, whether the caption was
    written for this image or for another one of the person. Nothing is left out, cameras do not
    count, and an image of another person is wrong even if the sentence fits it. Papers report R1,
    R5 and R10, which are ``rank(1)``, ``rank(5)`` and ``rank(10)``, with mAP and mINP.

    Args:
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.

    Example:
        >>> import torch
        >>> images = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> captions = torch.tensor([[1.0, 0.1], [0.1, 1.0]])  # both of person 7
        >>> result = TextToPersonProtocol().evaluate(
        ...     captions, images, text_ids=[7, 7], image_ids=[7, 3, 7])
        >>> # each finds one image first, and the other image of 7 behind that of 3
        >>> result.rank(1), round(result.mean_ap, 4)
        (1.0, 0.8333)

    References:
        Li et al., Person Search with Natural Language Description, CVPR 2017, section 5.1. Jiang
        and Ye, IRRA, CVPR 2023, section 4.1.
    """

    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50

    def __post_init__(self) -> None:
        check_protocol_options(
            "TextToPersonProtocol", self.distance, self.ties, self.max_rank, None
        )

    def evaluate(
        self,
        text_embeddings: Float[Tensor, "q d"] | Float[np.ndarray, "q d"],
        image_embeddings: Float[Tensor, "g d"] | Float[np.ndarray, "g d"],
        *,
        text_ids: Ids,
        image_ids: Ids,
    ) -> ReidResult:
        """Evaluate embeddings of captions and images, with the person of each row."""
        return evaluate_reid(
            text_embeddings,
            image_embeddings,
            query_ids=text_ids,
            gallery_ids=image_ids,
            distance=self.distance,
            ties=self.ties,
            max_rank=self.max_rank,
        )
