"""Evaluations across modalities or views: SYSU-MM01, RegDB, LLCM, AG-ReID, and your own columns."""

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from clipreid_kit import CrossModalityProtocol, LLCMProtocol, SysuMM01Protocol
from clipreid_kit.data import ImageRecord, evaluation_ids
from clipreid_kit.reports import Result

Column = Literal["modality", "view"]
Embed = Callable[[Sequence[ImageRecord]], Tensor]
Records = list[ImageRecord]

COLUMNS: dict[str, Column] = {"cross_modality": "modality", "cross_view": "view"}
_SEARCHES: dict[str, tuple[Literal["all", "indoor"], int]] = {
    "sysu_all": ("all", 1),
    "sysu_all_multi": ("all", 10),
    "sysu_indoor": ("indoor", 1),
    "sysu_indoor_multi": ("indoor", 10),
}
PROTOCOLS = (*COLUMNS, *_SEARCHES, "llcm")


def names_of(records: Sequence[ImageRecord], column: Column) -> npt.NDArray[np.str_]:
    """The modality, or view, of each record.

    Raises:
        ValueError: If a record has none.
    """
    without = [record.path for record in records if getattr(record, column) is None]
    if without:
        raise ValueError(
            f"data: {len(without)} of {len(records)} images have no {column} ({without[0]}, ...), "
            f"which the recipe compares across. Add a column {column}."
        )
    return np.array([getattr(record, column) for record in records])


def across(
    query: Records,
    gallery: Records | None,
    embed: Embed,
    column: Column,
    *,
    by_camera: bool,
    options: dict[str, Any],
) -> dict[str, Result]:
    """Results of all queries, under the name ``""``, and of each direction.

    Args:
        query: The queries.
        gallery: The gallery; ``None`` if each image is both.
        embed: Returns the embeddings of records.
        column: What differs between a query and what it ranks.
        by_camera: Whether to leave out images of the query's identity and camera.
        options: Further arguments of the protocol.
    """
    ranked = query if gallery is None else gallery
    columns: dict[str, Any] = evaluation_ids(query, ranked, cameras=None if by_camera else False)
    columns["query_modalities"] = names_of(query, column)
    columns["gallery_modalities"] = names_of(ranked, column)

    rows = embed(query), embed(ranked)
    results: dict[str, Result] = {"": CrossModalityProtocol(**options).evaluate(*rows, **columns)}
    for source, target in _directions(columns):
        protocol = CrossModalityProtocol(source, None, **options)
        if options.get("same") != "distractors":
            protocol = CrossModalityProtocol(source, target, **options)
        results[f"{source}_to_{target}"] = protocol.evaluate(*rows, **columns)
    return results


def _directions(columns: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of a query's and a gallery's modality that share an identity."""
    names = sorted({*columns["query_modalities"].tolist(), *columns["gallery_modalities"].tolist()})
    found = []
    for source, target in permutations(names, 2):
        queries = columns["query_ids"][columns["query_modalities"] == source]
        ranked = columns["gallery_ids"][columns["gallery_modalities"] == target]
        if np.isin(queries, ranked).any():
            found.append((source, target))
    return found


def sysu_mm01(
    protocol: str,
    query: Records,
    gallery: Records,
    embed: Embed,
    *,
    fixed: Any,  # noqa: ANN401 (permutations of the set, or None)
    options: dict[str, Any],
) -> Result:
    """The result of one of SYSU-MM01's searches, by the set's own draws where it has them."""
    search, num_shots = _SEARCHES[protocol]
    evaluator = SysuMM01Protocol(search, num_shots, **options)
    columns: dict[str, Any] = evaluation_ids(query, gallery, cameras=True)
    return evaluator.evaluate(embed(query), embed(gallery), permutations=fixed, **columns)


def llcm(test: Records, embed: Embed, options: dict[str, Any]) -> dict[str, Result]:
    """Results of LLCM in each direction."""
    modality_of_row = names_of(test, "modality")
    modalities = sorted(set(modality_of_row.tolist()))
    protocol = LLCMProtocol(**options)

    results: dict[str, Result] = {}
    for source, target in permutations(modalities, 2):
        query = [test[row] for row in np.flatnonzero(modality_of_row == source)]
        gallery = [test[row] for row in np.flatnonzero(modality_of_row == target)]

        columns: dict[str, Any] = evaluation_ids(query, gallery, cameras=True)
        result = protocol.evaluate(embed(query), embed(gallery), **columns)
        results[f"{source}_to_{target}"] = result

    return results
