"""The embeddings of an evaluation, as a file of arrays."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipreid_kit._files import write_whole
from clipreid_kit.data import ImageRecord, evaluation_ids
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
