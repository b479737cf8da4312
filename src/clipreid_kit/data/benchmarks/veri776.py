"""VeRi-776: vehicles on city roads, twenty cameras."""

import os
import re

from clipreid_kit.data.benchmarks._camera_in_name import records_by_name
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "VeRi-776's image_train, image_query and image_test"
_FOLDERS = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>\d{3})_.*")
_OFFICIAL = {"train": (37778, 576), "query": (1678, 200), "gallery": (11579, 200)}


def read_veri776(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``VeRi/{image_train,image_query,image_test}/<identity>_c<camera>_*.jpg``.

    Use it for VeRi-776. A zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (37,778 images, 576 identities), ``query`` (1,678, 200) and
        ``gallery`` (11,579, 200), ordered by split and name. Identities are integers, cameras
        integers from 1 to 20.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_veri776("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_veri776: there is nothing at no/such/folder; expected ...

    Note:
        Every query image is in ``image_test`` as well. Evaluate with cameras, so that gallery
        images of the query's identity and camera are left out.
    """
    check_policy("read_veri776", counts)
    tree, _ = locate("read_veri776", path, [(folder,) for folder in _FOLDERS.values()], _LAYOUT)

    form = "<identity>_c<camera>_*.jpg"
    records = records_by_name("read_veri776", tree, _FOLDERS, _NAME, form)
    check_counts("read_veri776", records, _OFFICIAL, counts)
    return records
