"""The embeddings of an evaluation, as a file of arrays: write it, and read it again."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipreid_kit._feature_file import FeatureFile
from clipreid_kit._files import write_whole
from clipreid_kit.data import ImageRecord, evaluate_records, evaluation_ids
from clipreid_kit.reports.evaluation import Evaluation


def write_features(folder: Path, evaluation: Evaluation) -> Path:
    """Write ``features.npz``, which ``clipreid-evaluate`` reads.

    With queries and a gallery the arrays are ``query_embeddings``, ``query_ids`` and
    ``query_paths``, and the same of the gallery; ``query_cameras`` and ``gallery_cameras`` if the
    evaluation left out images by camera. Where each image is ranked against the others, they are
    ``embeddings``, ``ids`` and ``paths``. Captions add ``text_embeddings``, ``text_ids`` and
    ``texts``.

    Args:
        folder: Folder to write to.
        evaluation: What was evaluated; of several splits the first is written.

    Returns:
        The file.
    """
    if evaluation.gallery is evaluation.query:
        arrays = {
            "embeddings": evaluation.query_embeddings.numpy(),
            "ids": evaluation_ids(evaluation.query)["query_ids"],
            "paths": _paths(evaluation.query),
        }
    else:
        arrays = _query_and_gallery(evaluation)

    if evaluation.text_embeddings is not None:
        arrays["text_embeddings"] = evaluation.text_embeddings.numpy()
        arrays["text_ids"] = np.array([identity for identity, _ in evaluation.captions])
        arrays["texts"] = np.array([text for _, text in evaluation.captions])

    content = io.BytesIO()
    np.savez(content, **arrays)
    path = folder / "features.npz"
    write_whole(path, content.getvalue())
    return path


def read_features(path: Path) -> Evaluation:
    """Read ``features.npz`` as :func:`write_features` wrote it, and evaluate its images by cosine.

    Args:
        path: The file. Captions are left aside.

    Returns:
        The evaluation; its records have a camera only where the evaluation left out images by it.

    Raises:
        ValueError: If the file is missing or damaged, has no paths of images, or its arrays are of
            different lengths.
    """
    file = FeatureFile(path, {}, {})
    if file.has("query_embeddings"):
        query, queries = _read_side(file, "query_")
        gallery, rows = _read_side(file, "gallery_")
    else:
        query, queries = _read_side(file, "")
        gallery, rows = query, queries

    camera_rule = file.has("query_cameras")
    if gallery is query:
        result = evaluate_records(queries, None, query, None)
    else:
        result = evaluate_records(queries, rows, query, gallery, cameras=camera_rule)
    return Evaluation(
        results={"image_to_image": result},
        query=query,
        gallery=gallery,
        query_embeddings=queries,
        gallery_embeddings=rows,
        text_embeddings=None,
        captions=[],
        camera_rule=camera_rule,
    )


def _read_side(file: FeatureFile, prefix: str) -> tuple[list[ImageRecord], torch.Tensor]:
    """Records and embeddings of the queries, of the gallery, or of all images."""
    embeddings = file.get(f"{prefix}embeddings")
    columns = {name: file.column(f"{prefix}{name}") for name in ("ids", "paths")}
    if file.has(f"{prefix}cameras"):
        columns["cameras"] = file.column(f"{prefix}cameras")

    for name, column in columns.items():
        if embeddings.ndim != 2 or column.shape != embeddings.shape[:1]:
            shapes = f"{embeddings.shape} and {column.shape}"
            raise ValueError(
                f"{file.path}: {prefix}embeddings and {prefix}{name} have the shapes {shapes}, "
                "which are not of one row each. Write the file again."
            )

    values = {name: column.tolist() for name, column in columns.items()}
    cameras = values.get("cameras", [None] * len(embeddings))
    records = []
    for name, identity, camera in zip(values["paths"], values["ids"], cameras, strict=True):
        records.append(ImageRecord(str(name), identity, camera=camera))
    return records, torch.from_numpy(np.asarray(embeddings, dtype=np.float32))


def _query_and_gallery(evaluation: Evaluation) -> dict[str, Any]:
    query, gallery = evaluation.query, evaluation.gallery
    cameras = None if evaluation.camera_rule else False
    return {
        "query_embeddings": evaluation.query_embeddings.numpy(),
        "gallery_embeddings": evaluation.gallery_embeddings.numpy(),
        "query_paths": _paths(query),
        "gallery_paths": _paths(gallery),
        **evaluation_ids(query, gallery, cameras=cameras),
    }


def _paths(records: Sequence[ImageRecord]) -> Any:  # noqa: ANN401 (an array of strings)
    return np.array([record.path for record in records])
