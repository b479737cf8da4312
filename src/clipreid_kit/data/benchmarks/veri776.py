"""VeRi-776: vehicles on city roads, twenty cameras."""

import os
import re

from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._parts import named_records
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord


def read_veri776(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``VeRi/{image_train,image_query,image_test}/<identity>_c<camera>_*.jpg``.

    Use it for VeRi-776. The zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (37,778 images, 576 identities), ``query`` (1,678, 200) and ``gallery``
        (11,579, 200), ordered by split and name; integers for identities and for cameras 1 to 20.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), or the counts
            differ and shall not.

    Example:
        >>> read_veri776("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_veri776: expected a folder or zip archive with VeRi-776's image_train, ...

    Note:
        A query's own image is in ``image_test`` as well. Evaluate with cameras: images of the query's
        identity and camera do not count.
    """
    check_policy("read_veri776", counts)
    tree, _ = locate("read_veri776", path, [(folder,) for folder in _PARTS.values()], _LAYOUT)
    records = named_records("read_veri776", tree, _PARTS, _NAME, "<identity>_c<camera>_*.jpg")
    check_counts("read_veri776", records, _OFFICIAL, counts)
    return records


_LAYOUT = "VeRi-776's image_train, image_query and image_test"
_PARTS = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>\d{3})_.*")
_OFFICIAL = {"train": (37778, 576), "query": (1678, 200), "gallery": (11579, 200)}
