"""Columns of identities and cameras that the evaluations take, from records."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipreid_kit.data.records import ImageRecord, check_records


def evaluation_ids(
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord] | None = None,
    *,
    cameras: bool | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Return the identities, and cameras, of records in the form that ``evaluate_reid`` takes.

    Use it as ``evaluate_reid(queries, gallery, **evaluation_ids(query_records, gallery_records))``,
    and likewise for the protocols; the rows of the embeddings are in the order of the records.

    Args:
        query: The query images.
        gallery: The gallery images; ``None`` for leave-one-out, where each query ranks all others.
        cameras: Whether to return cameras, so that gallery images of the query's identity and
            camera are left out. ``None`` returns them if there is a gallery and every record has a
            camera.

    Returns:
        ``query_ids`` (Q,) and, with a gallery, ``gallery_ids`` (G,); with cameras also
        ``query_cameras`` (Q,) and ``gallery_cameras`` (G,), as strings, so that numbers and names
        compare. For no records the columns are empty, which is an error in every evaluation.

    Raises:
        ValueError: If some identities are integers and others strings, or cameras are asked for and
            there is no gallery or a record has none.

    Example:
        >>> from clipreid_kit import evaluate_reid
        >>> query = [ImageRecord("a.jpg", 7, camera=1)]
        >>> gallery = [
        ...     ImageRecord("b.jpg", 7, camera=1),
        ...     ImageRecord("c.jpg", 8, camera=1),
        ...     ImageRecord("d.jpg", 7, camera=2),
        ... ]
        >>> columns = evaluation_ids(query, gallery)
        >>> columns["gallery_ids"].tolist(), columns["gallery_cameras"].tolist()
        ([7, 8, 7], ['1', '1', '2'])
        >>> rows = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
        >>> # b.jpg, the nearest, has the query's camera and does not count: c.jpg is first
        >>> evaluate_reid(rows[:1], rows, **columns).rank(1)
        0.0
    """
    records = [*query, *(gallery or ())]
    check_records("evaluation_ids", records)
    _check_one_type(records)

    without_camera = [record.path for record in records if record.camera is None]
    if cameras:
        _check_cameras(gallery is not None, without_camera)
    elif cameras is None:
        cameras = gallery is not None and not without_camera
        _warn_of_unused_cameras(gallery is not None, len(records), without_camera)

    columns = {"query_ids": _identities(query)}
    if gallery is not None:
        columns["gallery_ids"] = _identities(gallery)
    if gallery is not None and cameras:
        _check_one_spelling(query)
        _check_one_spelling(gallery)
        columns["query_cameras"] = _cameras(query)
        columns["gallery_cameras"] = _cameras(gallery)
    return columns


def _identities(records: Sequence[ImageRecord]) -> npt.NDArray[Any]:
    """Return the identity of each record."""
    return np.array([record.identity for record in records])


def _cameras(records: Sequence[ImageRecord]) -> npt.NDArray[Any]:
    """Return the camera of each record as a string, so that numbers and names compare."""
    return np.array([_written(record.camera) for record in records])


def _written(camera: int | str | None) -> str:
    """Return a camera as a string; of a number, without leading zeros."""
    text = str(camera)
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else text


def _check_one_spelling(records: Sequence[ImageRecord]) -> None:
    """Raise ValueError if one file of records distinguishes cameras such as ``1`` and ``01``."""
    spelling_of: dict[str, str] = {}
    for record in records:
        if isinstance(record.camera, str):
            first = spelling_of.setdefault(_written(record.camera), record.camera)
            if first != record.camera:
                raise ValueError(
                    f"evaluation_ids: the cameras {first!r} and {record.camera!r} are one number. "
                    "Write each camera in one way, or add letters if they differ."
                )


def _check_one_type(records: Sequence[ImageRecord]) -> None:
    """Raise ValueError if some identities are integers and others strings."""
    names = [record.identity for record in records if isinstance(record.identity, str)]
    if 0 < len(names) < len(records):
        raise ValueError(
            f"evaluation_ids: {len(names)} of {len(records)} identities are strings ({names[0]!r}, "
            "...), the others integers. The integer 1 and the string '1' are different identities: "
            "map all of them to one type."
        )


def _warn_of_unused_cameras(
    has_gallery: bool, num_records: int, without_camera: Sequence[str]
) -> None:
    """Warn if a few records without a camera turn the camera rule off for all."""
    if has_gallery and 0 < len(without_camera) < num_records:
        warnings.warn(
            f"evaluation_ids: {len(without_camera)} of {num_records} records have no camera "
            f"({without_camera[0]}, ...), so that no camera is used, and images of the query's own "
            "camera count. Fill their cameras in, or pass cameras=False if that is meant.",
            stacklevel=3,
        )


def _check_cameras(has_gallery: bool, without_camera: Sequence[str]) -> None:
    """Raise ValueError if the camera rule cannot be applied."""
    if not has_gallery:
        raise ValueError(
            "evaluation_ids: cameras=True needs a gallery; in leave-one-out pass cameras=False."
        )
    if without_camera:
        raise ValueError(
            f"evaluation_ids: cameras=True, but {len(without_camera)} records have no camera "
            f"({without_camera[0]}, ...). Fill their cameras in, or pass cameras=False."
        )
