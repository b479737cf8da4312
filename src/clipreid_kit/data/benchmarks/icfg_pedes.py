"""ICFG-PEDES: persons of MSMT17, each image described in one long sentence."""

import os
import re
from dataclasses import replace

from clipreid_kit.data.benchmarks._described_persons import (
    IMAGES,
    Captions,
    check_captions,
    chosen_captions,
    read_described_persons,
)
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "ICFG-PEDES's imgs and ICFG-PEDES.json"
_FILES = ("ICFG-PEDES.json", "ICFG_PEDES.json")  # both are in use
_OFFICIAL = {"train": (34674, 3102), "test": (19848, 1000)}

# As in MSMT17: test/0627/0627_010_05_0303afternoon_1591_0.jpg is by camera 5.
_CAMERA = re.compile(r"(?:^|/)\d+_\d+_(?P<camera>\d+)_[^/]*$")


def read_icfg_pedes(
    path: str | os.PathLike[str],
    *,
    captions: Captions = "first",
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``ICFG-PEDES/imgs/{train,test}/**`` with the captions of ``ICFG-PEDES.json``.

    Use it for text-to-image person search, with :class:`TextToPersonProtocol`. A zip archive is
    read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        captions: As for :func:`read_cuhk_pedes`. An image has one caption here.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (34,674 images, 3,102 identities) and ``test`` (19,848,
        1,000), in the order of the file. The folders ``train`` and ``test`` are those of MSMT17 and
        say nothing about the split. There is no validation split: hold out identities of ``train``.
        Identities are integers; where the list gives persons of both splits the same number, those
        of ``test`` are moved behind those of ``train``, because the 4,102 persons are distinct.
        Cameras are the numbers in the names of files.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            an entry lacks a key, an image is missing, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_icfg_pedes("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_icfg_pedes: there is nothing at no/such/folder; expected ...

    References:
        Ding et al., Semantically Self-Aligned Network for Text-to-Image Part-aware Person
        Re-identification, arXiv 2107.12666, 2021.
    """
    check_policy("read_icfg_pedes", counts)
    check_captions("read_icfg_pedes", captions)
    tree, found = locate("read_icfg_pedes", path, [(IMAGES,), _FILES], _LAYOUT)

    records = read_described_persons("read_icfg_pedes", tree, found[1], camera=_CAMERA)
    check_counts("read_icfg_pedes", records, _OFFICIAL, counts)
    return chosen_captions(_with_distinct_persons(records), captions)


def _with_distinct_persons(records: list[ImageRecord]) -> list[ImageRecord]:
    """Number the persons of other splits behind those of ``train`` if their numbers overlap."""
    train = {int(record.identity) for record in records if record.split == "train"}
    others = {int(record.identity) for record in records if record.split != "train"}
    if not train & others:
        return records

    first = max(train) + 1
    return [
        record
        if record.split == "train"
        else replace(record, identity=first + int(record.identity))
        for record in records
    ]
