"""CUHK03 in the new protocol: 767 training and 700 test identities, two cameras each."""

import os
import re
from typing import Literal

from clipreid_kit._checks import check_choice
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._parts import named_records
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord


def read_cuhk03(
    path: str | os.PathLike[str], *, boxes: Literal["labeled", "detected"], counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``cuhk03-np/{labeled,detected}/{bounding_box_train,query,bounding_box_test}/<identity>_c<camera>_*.png``.

    Use it for CUHK03 as nearly everybody reports it since 2017 (CUHK03-NP). The two kinds of boxes are two
    benchmarks: name the one you report. A zip archive is read in place. The older form, one ``.mat`` file, is
    not read.

    Args:
        path: The folder or zip archive that holds both kinds, or a folder above it.
        boxes: Boxes drawn by hand (``"labeled"``) or by a detector (``"detected"``, which is harder).
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (7,368 labeled or 7,365 detected images, 767 identities), ``query``
        (1,400, 700) and ``gallery`` (5,328 or 5,332, 700), ordered by split and name.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), or the counts
            differ and shall not.

    Example:
        >>> read_cuhk03("no/such/folder", boxes="labeled")
        Traceback (most recent call last):
        ...
        ValueError: read_cuhk03: expected a folder or zip archive with CUHK03-NP's labeled/bounding_box_train, ...
    """
    check_policy("read_cuhk03", counts)
    check_choice("read_cuhk03", "boxes", boxes, ("labeled", "detected"))
    parts = {split: f"{boxes}/{folder}" for split, folder in _PARTS.items()}
    layout = f"CUHK03-NP's {', '.join(parts.values())}"
    tree, _ = locate("read_cuhk03", path, [(folder,) for folder in parts.values()], layout)
    records = named_records("read_cuhk03", tree, parts, _NAME, "<identity>_c<camera>_<number>.png")
    # as the table in the protocol's own repository has them
    train, gallery = (7368, 5328) if boxes == "labeled" else (7365, 5332)
    official = {"train": (train, 767), "query": (1400, 700), "gallery": (gallery, 700)}
    check_counts("read_cuhk03", records, official, counts)
    return records


_PARTS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>\d+)_.*")
