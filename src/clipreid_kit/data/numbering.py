"""Numbers for identities and cameras, for tensors."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord


def hash_number(text: str) -> int:
    """63 bits that depend on the text alone; ten times as fast as a ``numpy.random.SeedSequence``."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def identities_of(records: Sequence[ImageRecord]) -> tuple[int | str, ...]:
    """The identities that occur, in sorted order."""
    numbers = sorted({record.identity for record in records if isinstance(record.identity, int)})
    names = sorted({record.identity for record in records if isinstance(record.identity, str)})
    if numbers and names:
        got = f"{len(numbers)} integers ({numbers[0]}, ...) and {len(names)} strings ({names[0]!r}, ...)"
        remedy = "Map all of them to one type: the integer 1 and the string '1' are different identities."
        raise fail("ReidDataset", "all identities as integers or all as strings", got, remedy)
    return (*numbers, *names)


def labels_of(
    records: Sequence[ImageRecord], identities: tuple[int | str, ...]
) -> Int[Tensor, " n"]:
    """The label of each record: the place of its identity among the given ones."""
    label_of = {identity: label for label, identity in enumerate(identities)}
    if len(label_of) < len(identities):
        raise fail(
            "ReidDataset", "identities that differ", f"{len(identities) - len(label_of)} repeated"
        )
    unknown = list(
        dict.fromkeys(record.identity for record in records if record.identity not in label_of)
    )
    if unknown:
        names = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        got = f"{len(unknown)} that are not: {names}"
        remedy = "Pass the identities of the gallery to the query set, or leave identities out."
        raise fail("ReidDataset", "every record's identity among the given identities", got, remedy)
    return torch.tensor([label_of[record.identity] for record in records])


def cameras_of(records: Sequence[ImageRecord]) -> Int[Tensor, " n"] | None:
    """The number of each record's camera; ``None`` if no record has one."""
    cameras = [record.camera for record in records if record.camera is not None]
    if not cameras:
        return None
    if len(cameras) < len(records):
        got = f"none for {len(records) - len(cameras)} of {len(records)}"
        remedy = (
            "Unknown cameras would count as one camera: fill them in, or leave all of them None."
        )
        raise fail("ReidDataset", "a camera for every record or for none", got, remedy)
    return torch.tensor([_camera_number(camera) for camera in cameras])


def _camera_number(camera: int | str) -> int:
    if isinstance(camera, str):
        return hash_number(camera)
    if camera < 0:
        raise fail(
            "ReidDataset",
            "cameras >= 0, or None where there are none",
            camera,
            "-1 marks an unknown camera.",
        )
    return camera
