"""The nearest gallery images of each query, as JSON Lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipreid_kit.distances import dot_product, euclidean_distance, l2_normalize
from clipreid_kit.reports.evaluation import Evaluation
from clipreid_kit.reports.json_files import write_json


def write_predictions(folder: Path, evaluation: Evaluation, count: int, distance: str) -> None:
    """Write ``predictions.jsonl``, and ``predictions_text.jsonl`` if captions were evaluated.

    Each line holds a query (a path or a caption) and the gallery images found for it, most similar
    first, without those that the protocol leaves out.

    Args:
        folder: Folder to write to.
        evaluation: What was evaluated.
        count: Images of each query.
        distance: ``cosine`` or ``euclidean``, for image queries; captions are compared by cosine.
    """
    paths = [record.path for record in evaluation.query]
    excluded = [evaluation.excluded_rows(query) for query in range(len(paths))]
    lines = _nearest(evaluation, paths, evaluation.query_embeddings, excluded, count, distance)
    write_json(folder / "predictions.jsonl", lines)

    if evaluation.text_embeddings is not None:
        captions = [caption for _, caption in evaluation.captions]
        nothing: list[list[int]] = [[] for _ in captions]
        lines = _nearest(evaluation, captions, evaluation.text_embeddings, nothing, count, "cosine")
        write_json(folder / "predictions_text.jsonl", lines)


def _nearest(
    evaluation: Evaluation,
    names: Sequence[str],
    queries: Tensor,
    excluded: Sequence[Sequence[int]],
    count: int,
    distance: str,
) -> list[dict[str, Any]]:
    # In float64, by which the evaluator ranks: the figures and these lists agree.
    queries, gallery = queries.double(), evaluation.gallery_embeddings.double()
    if distance == "cosine":
        queries, gallery = l2_normalize(queries), l2_normalize(gallery)

    lines: list[dict[str, Any]] = []
    for name, query, left_out in zip(names, queries[:, None], excluded, strict=True):
        cosine = distance == "cosine"
        similarity = dot_product(query, gallery) if cosine else -euclidean_distance(query, gallery)
        similarity = similarity[0]
        similarity[list(left_out)] = -torch.inf

        num_valid = int((similarity > -torch.inf).sum())
        best = similarity.topk(min(count, num_valid))

        found = []
        for row, value in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            record = evaluation.gallery[row]
            found.append({"path": record.path, "identity": record.identity, "similarity": value})
        lines.append({"query": name, "found": found})

    return lines
