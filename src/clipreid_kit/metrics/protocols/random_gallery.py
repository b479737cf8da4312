"""Protocols that draw one gallery image of every identity, several times: VehicleID and hands."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit._similarity.embedding_rows import EmbeddingRows, check_same_dim
from clipreid_kit._similarity.exact_similarity import Distance
from clipreid_kit.metrics._engine.id_columns import Ids, encode_array, id_array
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols._evaluate_sides import (
    Rerank,
    check_protocol_options,
    evaluate_sides,
)
from clipreid_kit.metrics.protocols._random_draws import (
    check_all_rows,
    check_draws,
    draw_one_each,
)
from clipreid_kit.metrics.results.reid_result import ReidResult
from clipreid_kit.metrics.results.split_results import SplitResults

IntArray = npt.NDArray[np.int64]


class GallerySplit(NamedTuple):
    """Row numbers of the queries and of the gallery; no row is in both.

    Attributes:
        query_rows: Ascending.
        gallery_rows: One for each identity, in the order of the identities.
    """

    query_rows: IntArray
    gallery_rows: IntArray


@dataclass(frozen=True, slots=True)
class VehicleIDProtocol:
    """One random gallery image of every identity, all others are queries, several times: VehicleID.

    The rule: for each split, one image of every identity is drawn into the gallery, and every other
    image is a query. A query has exactly one match, so AP is 1 / rank. An identity with a single
    image is in the gallery only. The result holds mean and spread over the splits.

    Args:
        num_splits: Number of galleries that are drawn.
        seed: Seed of a separate generator. The draws depend on the seed and on the order of the
            rows; with more splits, the first ones stay the same.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        rerank: See :class:`Market1501Protocol`; each split is re-ranked separately.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> results = VehicleIDProtocol(num_splits=3).evaluate(rows, ["a", "a", "b", "b"])
        >>> results.rank(1), results.num_splits, results.results[0].num_queries
        (1.0, 3, 2)

    References:
        Liu et al., Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles,
        CVPR 2016.
    """

    num_splits: int = 10
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        owner = "VehicleIDProtocol"
        check_protocol_options(owner, self.distance, self.ties, self.max_rank, self.rerank)
        check_draws(owner, self.num_splits, self.seed)

    def splits(self, ids: Ids) -> Iterator[GallerySplit]:
        """Draw the splits, to store them in a file or use them elsewhere."""
        codes = _encode("VehicleIDProtocol", "ids", ids)
        return _draw_splits("VehicleIDProtocol", codes, self.num_splits, self.seed)

    def evaluate(
        self, embeddings: Float[Tensor, "n d"] | Float[np.ndarray, "n d"], ids: Ids
    ) -> SplitResults:
        """Evaluate (N, D) embeddings with an identity for each row.

        Raises:
            ValueError: As :func:`evaluate_reid`, or if no identity has two images.
        """
        name = f"VehicleID, {self.num_splits} random galleries (seed {self.seed})"
        return _evaluate(self, name, embeddings, ids, None, None)


@dataclass(frozen=True, slots=True)
class HandsProtocol:
    """One random gallery image of every identity, with or without distractors: 11k Hands, HD.

    The rule: as for :class:`VehicleIDProtocol`; distractors, if given, are in every gallery and
    match no query. Report both results, with and without, under these names: a gallery of 290 is
    harder than one of 71, and the two have been compared with each other in the literature. The
    same images are drawn with and without distractors.

    Args:
        num_splits: Number of galleries that are drawn.
        seed: See :class:`VehicleIDProtocol`.
        distance: See :func:`evaluate_reid`.
        ties: See :func:`evaluate_reid`.
        max_rank: See :func:`evaluate_reid`.
        rerank: See :class:`Market1501Protocol`; each split is re-ranked separately.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> distractors = torch.tensor([[1.0, 0.05], [0.05, 1.0]])
        >>> protocol = HandsProtocol(num_splits=2)
        >>> protocol.evaluate(rows, [1, 1, 2, 2]).rank(1)
        1.0
        >>> protocol.evaluate(rows, [1, 1, 2, 2], distractor_embeddings=distractors).rank(1)
        0.0

    References:
        Baisa et al., Multi-branch with Attention Network for Hand-based Person Recognition
        (MBA-Net), ICPR 2022.
    """

    num_splits: int = 10
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        owner = "HandsProtocol"
        check_protocol_options(owner, self.distance, self.ties, self.max_rank, self.rerank)
        check_draws(owner, self.num_splits, self.seed)

    def splits(self, ids: Ids) -> Iterator[GallerySplit]:
        """Draw the splits, to store them in a file or use them elsewhere."""
        codes = _encode("HandsProtocol", "ids", ids)
        return _draw_splits("HandsProtocol", codes, self.num_splits, self.seed)

    def evaluate(
        self,
        embeddings: Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
        ids: Ids,
        *,
        distractor_embeddings: Float[Tensor, "m d"] | Float[np.ndarray, "m d"] | None = None,
        distractor_ids: Ids | None = None,
    ) -> SplitResults:
        """Evaluate (N, D) embeddings with an identity for each row.

        Args:
            embeddings: (N, D), any scale.
            ids: Identity of each row: integers or strings.
            distractor_embeddings: (M, D): rows that match no query, whatever their identity is
                called.
            distractor_ids: Identity of each distractor: one random row of each is in each gallery
                (11k Hands: the other aspects; name one identity differently in each aspect).
                ``None`` for all rows in every gallery (HD).

        Raises:
            ValueError: As :func:`evaluate_reid`, or if no identity has two images, or
                ``distractor_ids`` are given without ``distractor_embeddings``.
        """
        extra = "without distractors" if distractor_embeddings is None else "with distractors"
        name = f"Hands {extra}, {self.num_splits} random galleries (seed {self.seed})"
        return _evaluate(self, name, embeddings, ids, distractor_embeddings, distractor_ids)


class _Distractors(NamedTuple):
    """Distractors, and the number of each one's identity; ``None`` if all are in every gallery."""

    rows: EmbeddingRows
    codes: IntArray | None

    def draw(self, generator: torch.Generator) -> IntArray:
        """Return the rows of one gallery."""
        if self.codes is None:
            return np.arange(len(self.rows))
        return draw_one_each(self.codes, generator)


def _encode(owner: str, name: str, ids: Ids) -> IntArray:
    """Check ids, and number them from 0."""
    if not hasattr(ids, "__len__"):
        raise fail(owner, f"{name} as a list of ids", type(ids).__name__)
    return encode_array(id_array(owner, name, ids, len(ids)))


def _draw_splits(owner: str, codes: IntArray, num_splits: int, seed: int) -> Iterator[GallerySplit]:
    if len(codes) == 0 or np.bincount(codes).max() < 2:
        raise ValueError(
            f"{owner}: no identity has two images, one for the gallery and one as a query; got "
            f"{len(codes)} images of {len(codes)} identities."
        )

    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_splits):
        gallery_rows = draw_one_each(codes, generator)
        is_query = np.ones(len(codes), dtype=bool)
        is_query[gallery_rows] = False
        yield GallerySplit(np.flatnonzero(is_query), gallery_rows)


def _read_distractors(
    owner: str,
    rows: EmbeddingRows,
    embeddings: Tensor | npt.NDArray[Any] | None,
    ids: Ids | None,
) -> _Distractors | None:
    """Check the distractors; ``None`` if there are none."""
    if embeddings is None:
        if ids is not None:
            raise ValueError(
                f"{owner}: distractor_ids is given without distractor_embeddings; pass both, or "
                "neither."
            )
        return None

    distractors = check_all_rows(owner, "distractor_embeddings", embeddings, rows.device)
    check_same_dim(owner, rows, distractors)
    codes = None
    if ids is not None:
        codes = encode_array(id_array(owner, "distractor_ids", ids, len(distractors)))
    return _Distractors(distractors, codes)


def _evaluate(
    protocol: VehicleIDProtocol | HandsProtocol,
    name: str,
    embeddings: Tensor | npt.NDArray[Any],
    ids: Ids,
    distractor_embeddings: Tensor | npt.NDArray[Any] | None,
    distractor_ids: Ids | None,
) -> SplitResults:
    """Evaluate each split of a protocol."""
    owner = type(protocol).__name__
    rows = check_all_rows(owner, "embeddings", embeddings, None)
    named_ids = id_array(owner, "ids", ids, len(rows))
    codes = encode_array(named_ids)
    distractors = _read_distractors(owner, rows, distractor_embeddings, distractor_ids)

    # a generator for the distractors alone: the same splits are drawn without them
    generator = torch.Generator().manual_seed(protocol.seed)
    results: list[ReidResult] = []
    query_rows: list[IntArray] = []
    for split in _draw_splits(owner, codes, protocol.num_splits, protocol.seed):
        gallery = rows.take(split.gallery_rows)
        gallery_codes = codes[split.gallery_rows]
        if distractors is not None:
            drawn = distractors.draw(generator)
            gallery = torch.cat([gallery, distractors.rows.take(drawn)])
            gallery_codes = np.concatenate([gallery_codes, np.full(len(drawn), -1)])

        result = evaluate_sides(
            rows.take(split.query_rows),
            gallery,
            protocol.rerank,
            query_ids=codes[split.query_rows],
            gallery_ids=gallery_codes,
            distance=protocol.distance,
            ties=protocol.ties,
            max_rank=protocol.max_rank,
        )
        results.append(replace(result, query_ids=named_ids[split.query_rows]))
        query_rows.append(split.query_rows)

    if protocol.rerank is not None:
        name += ", re-ranked"
    return SplitResults(tuple(results), name, tuple(query_rows))
