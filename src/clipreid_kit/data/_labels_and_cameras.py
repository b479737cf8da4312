"""Integer labels and camera numbers of records, as tensors."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit.data._hash_number import hash_number
from clipreid_kit.data.records import ImageRecord

_OWNER = "ReidDataset"

_DIGITS = re.compile(r"[0-9]{1,18}")  # 18 digits always fit 64 bits


def identities_of(records: Sequence[ImageRecord]) -> tuple[int | str, ...]:
    """Return the identities that occur, in sorted order."""
    integers = {record.identity for record in records if isinstance(record.identity, int)}
    strings = {record.identity for record in records if isinstance(record.identity, str)}

    numbers = sorted(integers)
    names = sorted(strings)
    if numbers and names:
        raise ValueError(
            f"{_OWNER}: {len(numbers)} identities are integers ({numbers[0]}, ...) and "
            f"{len(names)} are strings ({names[0]!r}, ...). The integer 1 and the string '1' are "
            "different identities: map all of them to one type."
        )

    return (*numbers, *names)


def labels_of(
    records: Sequence[ImageRecord], identities: tuple[int | str, ...]
) -> Int[Tensor, " n"]:
    """Return the label of each record: the position of its identity among the given ones."""
    label_of = {identity: label for label, identity in enumerate(identities)}
    if len(label_of) < len(identities):
        num_repeated = len(identities) - len(label_of)
        raise ValueError(f"{_OWNER}: {num_repeated} of the given identities are repeated.")

    _check_known(records, label_of)
    return torch.tensor([label_of[record.identity] for record in records], device="cpu")


def cameras_of(records: Sequence[ImageRecord]) -> Int[Tensor, " n"] | None:
    """Return the number of each record's camera; ``None`` if no record has a camera."""
    cameras = [record.camera for record in records if record.camera is not None]
    if not cameras:
        return None

    if len(cameras) < len(records):
        raise ValueError(
            f"{_OWNER}: {len(records) - len(cameras)} of {len(records)} records have no camera. "
            "Unknown cameras would count as one camera: fill them in, or leave all of them None."
        )

    number_of = {camera: _camera_number(camera) for camera in set(cameras)}
    _check_one_spelling(number_of)
    return torch.tensor([number_of[camera] for camera in cameras], device="cpu")


def _check_known(records: Sequence[ImageRecord], known: dict[int | str, int]) -> None:
    """Raise ValueError if a record's identity has no label."""
    unknown: dict[int | str, None] = {}  # in the order of the records, each once
    for record in records:
        if record.identity not in known:
            unknown[record.identity] = None

    if unknown:
        names = ", ".join(repr(identity) for identity in list(unknown)[:3])
        more = ", ..." if len(unknown) > 3 else ""
        raise ValueError(
            f"{_OWNER}: {len(unknown)} identities of the records are not among the given "
            f"identities: {names}{more}. Pass the identities of the gallery to the query set, or "
            "leave identities out."
        )


def _check_one_spelling(number_of: dict[int | str, int]) -> None:
    """Raise ValueError if two cameras are written as one number, such as ``1`` and ``01``."""
    written: dict[int, str] = {}
    for camera, number in number_of.items():
        first = written.setdefault(number, str(camera))
        if first != str(camera):
            raise ValueError(
                f"{_OWNER}: the cameras {first!r} and {str(camera)!r} are one number. Write each "
                "camera in one way, or add letters if they differ."
            )


def _camera_number(camera: int | str) -> int:
    """Return the number of a camera: what it writes, or 63 bits that depend on any other text.

    So query and gallery agree, also if one was read as integers and the other, for a single camera
    such as ``02`` or ``gate``, as strings.
    """
    if isinstance(camera, str):
        if _DIGITS.fullmatch(camera):
            return int(camera)
        return hash_number(camera)

    if camera < 0:
        remedy = "The number -1 marks an unknown camera."
        raise fail(_OWNER, "cameras >= 0, or None for an unknown camera", camera, remedy)

    return camera
