"""What was found for each query, as lines of JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipreid_kit.data import ImageRecord
from clipreid_kit.distances import dot_product, euclidean_distance, l2_normalize
from examples.report.evaluation import Evaluation
from examples.report.files import write_json


def write_predictions(folder: Path, found: Evaluation, count: int, metric: str) -> None:
    """Write what was found for each query of the first protocol, and for each caption."""
    gallery, rows = found.gallery, found.gallery_embeddings
    images, rule = (found.query, found.query_embeddings), found.camera_rule
    write_best(
        folder / "predictions.jsonl", *images, gallery, rows, count, metric, camera_rule=rule
    )
    if found.text_embeddings is not None:
        captions = list(found.captions.values())
        write_best(
            folder / "predictions_text.jsonl",
            captions,
            found.text_embeddings,
            gallery,
            rows,
            count,
            "cosine",
        )


def write_best(
    path: Path,
    queries: Sequence[ImageRecord] | Sequence[str],
    embeddings: Tensor,
    gallery: Sequence[ImageRecord],
    rows: Tensor,
    count: int,
    metric: str,
    *,
    camera_rule: bool = False,
) -> None:
    """The nearest of the gallery for each query, without what the protocol leaves out, as lines of JSON."""
    lines: list[Mapping[str, Any]] = []
    left_out: dict[Any, list[int]] = {}
    for row, record in enumerate(gallery):
        left_out.setdefault(record.path, []).append(row)
        if camera_rule:
            left_out.setdefault((record.identity, str(record.camera)), []).append(row)
    if metric == "cosine":
        embeddings, rows = l2_normalize(embeddings), l2_normalize(rows)
    for query, embedding in zip(queries, embeddings, strict=True):
        one = embedding[None]
        similarity = (
            dot_product(one, rows) if metric == "cosine" else -euclidean_distance(one, rows)
        )[0]
        if isinstance(query, ImageRecord):
            own = left_out.get((query.identity, str(query.camera)), []) if camera_rule else []
            similarity[left_out.get(query.path, []) + own] = -torch.inf
        best = similarity.topk(min(count, int((similarity > -torch.inf).sum())))
        found = [
            {"path": gallery[row].path, "identity": gallery[row].identity, "similarity": value}
            for value, row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        name = query.path if isinstance(query, ImageRecord) else query
        lines.append({"query": name, "found": found})
    write_json(path, lines)
