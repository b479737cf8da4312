"""Galleries of a few drawn images of each identity and camera, evaluated several times."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipreid_kit._similarity.embedding_rows import check_same_dim
from clipreid_kit.metrics._engine.id_columns import Ids, encode_ids, id_array
from clipreid_kit.metrics.protocols._identity_ranks import identity_ranks
from clipreid_kit.metrics.protocols._query_groups import (
    Options,
    QueryGroup,
    Sides,
    evaluate_groups,
)
from clipreid_kit.metrics.protocols._random_draws import check_all_rows, draw_some_each
from clipreid_kit.metrics.results.reid_result import ReidResult

Embeddings = Tensor | npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


def read_sides(
    owner: str,
    embeddings: tuple[Embeddings, Embeddings],
    ids: tuple[Ids, Ids],
    exclude: tuple[Ids, Ids] | None = None,
) -> Sides:
    """Check embeddings, identities and the column that leaves matches out.

    Args:
        owner: Name of the caller, for error messages.
        embeddings: Of both sides.
        ids: Identities of both sides.
        exclude: Cameras of both sides, if images of the query's identity and camera are left out.
    """
    queries = check_all_rows(owner, "query_embeddings", embeddings[0], None)
    gallery = check_all_rows(owner, "gallery_embeddings", embeddings[1], queries.device)
    check_same_dim(owner, queries, gallery)

    shape = len(queries), len(gallery)
    columns = []
    if exclude is not None:
        columns.append(encode_ids(owner, exclude, shape, column="cameras"))
    codes = encode_ids(owner, ids, shape)
    return Sides(queries, gallery, codes, columns, id_array(owner, "query_ids", ids[0], shape[0]))


def draw_shots(
    gallery_ids: IntArray, gallery_cameras: IntArray, num_shots: int, num_splits: int, seed: int
) -> Iterator[IntArray]:
    """Yield the rows of each gallery, ascending: random rows of each identity and camera."""
    both = np.stack([gallery_ids, gallery_cameras], axis=1)
    codes = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_splits):
        yield np.sort(draw_some_each(codes, generator, num_shots))


def evaluate_shots(
    owner: str, sides: Sides, draws: Sequence[Sequence[QueryGroup]], options: Options
) -> list[ReidResult]:
    """Evaluate each draw: AP and INP over images, Rank-k over identities.

    Raises:
        ValueError: If no query has a match in any draw.
    """
    results = [evaluate_groups(sides, groups, options) for groups in draws]
    if not any(result.num_valid_queries for result in results):
        raise ValueError(
            f"{owner}: no query has a match: check how ids and cameras of both sides were made."
        )

    ranks = identity_ranks(sides, draws, options.distance, options.ties)
    return [
        replace(result, first_rank=rank if options.ties == "mean" else rank.astype(np.int64))
        for result, rank in zip(results, ranks, strict=True)
    ]
