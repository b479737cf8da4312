"""CUHK03 in the new protocol: 767 training and 700 test identities, two cameras each."""

import os
import re
from typing import Literal

from clipreid_kit._checks import check_choice
from clipreid_kit.data.benchmarks._camera_in_name import records_by_name
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord

_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>\d+)_.*")

# Images and identities, from the table in the protocol's own repository.
_OFFICIAL = {
    "labeled": {"train": (7368, 767), "query": (1400, 700), "gallery": (5328, 700)},
    "detected": {"train": (7365, 767), "query": (1400, 700), "gallery": (5332, 700)},
}


def read_cuhk03(
    path: str | os.PathLike[str], *, boxes: Literal["labeled", "detected"], counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``cuhk03-np/<boxes>/<folder>/<identity>_c<camera>_*.png``.

    Use it for CUHK03 as nearly all papers report it since 2017 (CUHK03-NP). The folders are
    ``bounding_box_train``, ``query`` and ``bounding_box_test``. The two kinds of boxes are two
    benchmarks: name the one that you report. A zip archive is read in place. The older form, one
    ``.mat`` file, is not read.

    Args:
        path: The folder or zip archive that holds both kinds, or a folder above it.
        boxes: Boxes drawn by hand (``"labeled"``) or by a detector (``"detected"``, which is
            harder).
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (7,368 labeled or 7,365 detected images, 767 identities),
        ``query`` (1,400, 700) and ``gallery`` (5,328 or 5,332, 700), ordered by split and name.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_cuhk03("no/such/folder", boxes="labeled")
        Traceback (most recent call last):
        ...
        ValueError: read_cuhk03: there is nothing at no/such/folder; expected ...
    """
    check_policy("read_cuhk03", counts)
    check_choice("read_cuhk03", "boxes", boxes, ("labeled", "detected"))

    folder_of = {split: f"{boxes}/{folder}" for split, folder in _FOLDERS.items()}
    layout = f"CUHK03-NP's {', '.join(folder_of.values())}"
    tree, _ = locate("read_cuhk03", path, [(folder,) for folder in folder_of.values()], layout)

    form = "<identity>_c<camera>_<number>.png"
    records = records_by_name("read_cuhk03", tree, folder_of, _NAME, form)
    check_counts("read_cuhk03", records, _OFFICIAL[boxes], counts)
    return records
