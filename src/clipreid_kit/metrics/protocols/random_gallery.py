"""Protocols that draw one gallery image of every identity, several times: VehicleID and hands."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from clipreid_kit._checks import check_integer, check_seed, fail
from clipreid_kit.metrics._engine.embedding_rows import Rows
from clipreid_kit.metrics._engine.exact_similarity import Distance
from clipreid_kit.metrics._engine.identity_matches import Ids, flat
from clipreid_kit.metrics._engine.ranks_to_measures import Ties
from clipreid_kit.metrics.protocols.fixed_gallery import Rerank, check_protocol, evaluate_sides
from clipreid_kit.metrics.results.reid_result import ReidResult
from clipreid_kit.metrics.results.split_results import SplitResults

IntArray = npt.NDArray[np.int64]
_CHECKED = 1 << 24  # numbers of a file that are looked at together


class GallerySplit(NamedTuple):
    """Row numbers of the queries and of the gallery; none is in both.

    Attributes:
        query_rows: Ascending.
        gallery_rows: One for each identity, in the order of the identities.
    """

    query_rows: IntArray
    gallery_rows: IntArray


@dataclass(frozen=True, slots=True)
class VehicleIDProtocol:
    """One random gallery image of every identity, all others are queries; several times: VehicleID.

    The rule: for each split, one image of every identity is drawn into the gallery, and every other image is a query.
    A query has exactly one match, so AP is 1 / rank. An identity with a single image is in the gallery only. Reported
    are mean and spread over the splits.

    Args:
        num_splits: How many galleries are drawn.
        seed: Of a generator of its own. The draws depend on the seed and on the order of the rows; more splits begin
            with those of fewer.
        distance: As for :func:`evaluate_reid`.
        ties: As for :func:`evaluate_reid`.
        max_rank: As for :func:`evaluate_reid`.
        rerank: As for :class:`Market1501Protocol`; each split is re-ranked by itself.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> results = VehicleIDProtocol(num_splits=3).evaluate(rows, ["a", "a", "b", "b"])
        >>> results.rank(1), results.num_splits, results.results[0].num_queries
        (1.0, 3, 2)

    References:
        Liu et al., Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles, CVPR 2016.
    """

    num_splits: int = 10
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        check_protocol("VehicleIDProtocol", self.distance, self.ties, self.max_rank, self.rerank)
        check_draws("VehicleIDProtocol", self.num_splits, self.seed)

    def splits(self, ids: Ids) -> Iterator[GallerySplit]:
        """The splits themselves, to be kept in a file or used elsewhere."""
        codes = _codes("VehicleIDProtocol", "ids", ids)
        return _splits("VehicleIDProtocol", codes, self.num_splits, self.seed)

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

    The rule: as for :class:`VehicleIDProtocol`; and distractors, if given, stand in every gallery and match no query.
    Report both, with and without, under their names: a gallery of 290 is harder than one of 71, and numbers of the two
    have been compared with each other. With and without distractors the same own images are drawn.

    Args:
        num_splits: How many galleries are drawn.
        seed: As for :class:`VehicleIDProtocol`.
        distance: As for :func:`evaluate_reid`.
        ties: As for :func:`evaluate_reid`.
        max_rank: As for :func:`evaluate_reid`.
        rerank: As for :class:`Market1501Protocol`; each split is re-ranked by itself.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> others = torch.tensor([[1.0, 0.05], [0.05, 1.0]])
        >>> protocol = HandsProtocol(num_splits=2)
        >>> protocol.evaluate(rows, [1, 1, 2, 2]).rank(1)
        1.0
        >>> protocol.evaluate(rows, [1, 1, 2, 2], distractor_embeddings=others).rank(1)
        0.0

    References:
        Baisa et al., Multi-branch with Attention Network for Hand-based Person Recognition (MBA-Net), ICPR 2022.
    """

    num_splits: int = 10
    seed: int = 0
    distance: Distance = "cosine"
    ties: Ties = "pessimistic"
    max_rank: int = 50
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        check_protocol("HandsProtocol", self.distance, self.ties, self.max_rank, self.rerank)
        check_draws("HandsProtocol", self.num_splits, self.seed)

    def splits(self, ids: Ids) -> Iterator[GallerySplit]:
        """The splits themselves, to be kept in a file or used elsewhere."""
        return _splits(
            "HandsProtocol", _codes("HandsProtocol", "ids", ids), self.num_splits, self.seed
        )

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
            distractor_embeddings: (M, D): rows that match no query, whatever their identity is called.
            distractor_ids: Identity of each distractor: one random row of each stands in each gallery (11k Hands: the
                other aspects; name one identity differently in each aspect). ``None``: all rows stand in every
                gallery (HD).

        Raises:
            ValueError: As :func:`evaluate_reid`, or if no identity has two images, or ``distractor_ids`` come alone.
        """
        extra = "without distractors" if distractor_embeddings is None else "with distractors"
        name = f"Hands {extra}, {self.num_splits} random galleries (seed {self.seed})"
        return _evaluate(self, name, embeddings, ids, distractor_embeddings, distractor_ids)


def draw_one_each(codes: IntArray, generator: torch.Generator) -> IntArray:
    """One random row of each number, in the order of the numbers."""
    order = torch.randperm(len(codes), generator=generator).numpy()
    drawn: IntArray = order[np.unique(codes[order], return_index=True)[1]]
    return drawn


def check_draws(owner: str, count: int, seed: int) -> None:
    """Check number and seed of random draws."""
    check_integer(owner, "num_splits", count, 1)
    check_seed(owner, seed)


def checked_rows(
    owner: str, name: str, embeddings: Tensor | npt.NDArray[Any], device: torch.device | None
) -> Rows:
    """Rows that were looked at as a whole, so that an error names them by the numbers that the caller knows."""
    rows = Rows(owner, name, embeddings, device)
    step = max(1, _CHECKED // rows.shape[1]) if rows.streamed else len(rows)
    for start in range(0, len(rows), step):
        rows.norms(start, min(start + step, len(rows)))
    return rows


def _codes(owner: str, name: str, ids: Ids) -> IntArray:
    if not hasattr(ids, "__len__"):
        raise fail(owner, f"{name} as a list of ids", type(ids).__name__)
    array = flat(owner, name, ids, len(ids))
    return np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _splits(owner: str, codes: IntArray, count: int, seed: int) -> Iterator[GallerySplit]:
    if len(codes) == 0 or np.bincount(codes).max() < 2:
        got = f"{len(codes)} images of {len(codes)} identities"
        raise fail(
            owner,
            "at least one identity with two images: one for the gallery, one to ask for it",
            got,
        )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        gallery = draw_one_each(codes, generator)
        is_query = np.ones(len(codes), dtype=bool)
        is_query[gallery] = False
        yield GallerySplit(np.flatnonzero(is_query), gallery)


def _evaluate(
    protocol: VehicleIDProtocol | HandsProtocol,
    name: str,
    embeddings: Tensor | npt.NDArray[Any],
    ids: Ids,
    distractors: Tensor | npt.NDArray[Any] | None,
    distractor_ids: Ids | None,
) -> SplitResults:
    owner = type(protocol).__name__
    rows = checked_rows(owner, "embeddings", embeddings, None)
    named = flat(owner, "ids", ids, len(rows))
    codes = _codes(owner, "ids", named)
    if distractors is None and distractor_ids is not None:
        raise fail(owner, "distractor_embeddings with distractor_ids", "none")
    others, of_others = None, None
    if distractors is not None:
        others = checked_rows(owner, "distractor_embeddings", distractors, rows.device)
        if others.shape[1] != rows.shape[1]:
            shown = f"{rows.shape} and {others.shape}"
            raise fail(owner, "embeddings and distractor_embeddings of one width", shown)
        if distractor_ids is not None:
            of_others = _codes(
                owner, "distractor_ids", flat(owner, "distractor_ids", distractor_ids, len(others))
            )
    generator = torch.Generator().manual_seed(
        protocol.seed
    )  # of its own: the galleries are those without distractors
    results: list[ReidResult] = []
    query_rows: list[IntArray] = []
    for split in _splits(owner, codes, protocol.num_splits, protocol.seed):
        gallery, gallery_codes = rows.take(split.gallery_rows), codes[split.gallery_rows]
        if others is not None:
            chosen = (
                np.arange(len(others)) if of_others is None else draw_one_each(of_others, generator)
            )
            gallery = torch.cat([gallery, others.take(chosen)])
            gallery_codes = np.concatenate([gallery_codes, np.full(len(chosen), -1)])
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
        results.append(replace(result, query_ids=named[split.query_rows]))
        query_rows.append(split.query_rows)
    return SplitResults(
        tuple(results), name + (", re-ranked" if protocol.rerank else ""), tuple(query_rows)
    )
