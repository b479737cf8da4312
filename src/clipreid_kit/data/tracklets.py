"""Tracklets: images of one identity before one camera, in the order of their frames."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from clipreid_kit._checks import shown
from clipreid_kit.data.records import ImageRecord, check_records

_REMEDY = (
    "Give every tracklet a name of its own in the whole data set, such as identity, camera and "
    "number together."
)


def check_tracklets(records: Sequence[ImageRecord]) -> None:
    """Require that all records have a tracklet, and that each is of one identity and one camera.

    Args:
        records: Records of video frames.

    Raises:
        ValueError: If a record has no tracklet, a tracklet has two identities or two cameras, some
            of its images have a frame and others none, or two of them have the same.

    Example:
        >>> two_persons = [ImageRecord(f"{n}.jpg", n, tracklet=7) for n in (1, 2)]
        >>> check_tracklets(two_persons)
        Traceback (most recent call last):
        ...
        ValueError: check_tracklets: tracklet 7 has two identities, 1 (1.jpg) and 2 (2.jpg). ...
    """
    _rows_of_tracklets("check_tracklets", records)


def tracklet_rows(records: Sequence[ImageRecord]) -> list[list[int]]:
    """Find the rows of each tracklet, in the order of its frames.

    Use it to encode or to pool whole tracklets. Images without a frame stay in their order.

    Args:
        records: Records of video frames.

    Returns:
        Rows of each tracklet, in the order in which the tracklets first occur. No records give
        none.

    Raises:
        ValueError: As :func:`check_tracklets`.

    Example:
        >>> frames = [ImageRecord(f"{n}.jpg", 1, tracklet="t", frame=n) for n in (2, 0, 1)]
        >>> tracklet_rows(frames)
        [[1, 2, 0]]
    """
    return list(_rows_of_tracklets("tracklet_rows", records).values())


def tracklet_numbers(records: Sequence[ImageRecord]) -> Int[Tensor, " n"]:
    """Number the tracklets from 0, in the order in which they first occur.

    Args:
        records: Records of video frames.

    Returns:
        The number of each record's tracklet (N,); empty for no records.

    Raises:
        ValueError: As :func:`check_tracklets`.

    Example:
        >>> names = ("b", "a", "b")
        >>> tracklet_numbers([ImageRecord("a.jpg", 1, tracklet=name) for name in names])
        tensor([0, 1, 0])
    """
    numbers = torch.zeros(len(records), dtype=torch.int64, device="cpu")
    for number, rows in enumerate(_rows_of_tracklets("tracklet_numbers", records).values()):
        numbers[rows] = number
    return numbers


def group_stills(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Make a tracklet of all images that have split, identity and camera in common.

    Use it to evaluate stills as a system with several images of each person does: the images of an
    identity by one camera are pooled into one query or one gallery item. Tracklets and frames that
    the records have are replaced.

    Args:
        records: Records of images.

    Returns:
        The records in their order, with a tracklet and, as their frame, their place in it.

    Raises:
        ValueError: If one is no record.

    Example:
        >>> stills = [ImageRecord(f"{n}.jpg", 5, camera=n // 2) for n in range(3)]
        >>> [(record.tracklet, record.frame) for record in group_stills(stills)]
        [(0, 0), (0, 1), (1, 0)]
    """
    records = list(records)
    check_records("group_stills", records)

    sizes: dict[tuple[object, ...], int] = {}
    number_of: dict[tuple[object, ...], int] = {}
    grouped = []
    for record in records:
        key = (record.split, record.identity, record.camera)
        number = number_of.setdefault(key, len(number_of))
        frame = sizes.get(key, 0)
        sizes[key] = frame + 1
        grouped.append(replace(record, tracklet=number, frame=frame))
    return grouped


def _rows_of_tracklets(owner: str, records: Sequence[ImageRecord]) -> dict[int | str, list[int]]:
    """Group the rows by tracklet, each in the order of its frames, and check every tracklet."""
    check_records(owner, records)

    rows_of: dict[int | str, list[int]] = {}
    for row, record in enumerate(records):
        if record.tracklet is None:
            raise ValueError(
                f"{owner}: {record.path} has no tracklet. Name the tracklet of every image, or "
                "make tracklets of stills by group_stills."
            )
        rows_of.setdefault(record.tracklet, []).append(row)

    for tracklet, rows in rows_of.items():
        images = [records[row] for row in rows]
        _check_one_value(owner, tracklet, images, "identity", "identities")
        _check_one_value(owner, tracklet, images, "camera", "cameras")
        rows_of[tracklet] = _in_order(owner, tracklet, rows, images)

    return rows_of


def _check_one_value(
    owner: str, tracklet: int | str, images: Sequence[ImageRecord], column: str, plural: str
) -> None:
    """Require that all images of a tracklet have the same value in a column."""
    first = images[0]
    expected = getattr(first, column)

    for image in images:
        value = getattr(image, column)
        if value != expected:
            raise ValueError(
                f"{owner}: tracklet {shown(tracklet)} has two {plural}, {shown(expected)} "
                f"({first.path}) and {shown(value)} ({image.path}). {_REMEDY}"
            )


def _in_order(
    owner: str, tracklet: int | str, rows: list[int], images: Sequence[ImageRecord]
) -> list[int]:
    """Return the rows of a tracklet in the order of its frames; as they are if none has one."""
    frames = [image.frame for image in images if image.frame is not None]
    if not frames:
        return rows

    if len(frames) < len(rows):
        without = next(image.path for image in images if image.frame is None)
        raise ValueError(
            f"{owner}: {len(rows) - len(frames)} of {len(rows)} images of tracklet "
            f"{shown(tracklet)} have no frame ({without}). Number all of them, or none."
        )
    if len(set(frames)) < len(rows):
        raise ValueError(
            f"{owner}: two images of tracklet {shown(tracklet)} have the same frame. Number the "
            "images of a tracklet in their order."
        )

    row_of_frame = dict(zip(frames, rows, strict=True))
    return [row_of_frame[frame] for frame in sorted(frames)]
