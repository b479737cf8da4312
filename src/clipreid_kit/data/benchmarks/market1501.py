"""Market-1501: persons before a supermarket, six cameras."""

import os
import re

from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._parts import named_records
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord


def read_market1501(
    path: str | os.PathLike[str], *, junk: bool = False, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}/<identity>_c<camera>s*.jpg``.

    Use it for Market-1501 and whatever is laid out like it. The zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        junk: Whether to keep the 3,819 gallery boxes of identity -1. Every published evaluation ignores
            them; to do so yourself, pass them as junk to the evaluator.
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (12,936 images, 751 identities), ``query`` (3,368, 750) and ``gallery``
        (15,913, 751: identity 0 are distractors), ordered by split and name; integers for identities and for
        cameras 1 to 6.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), or the counts
            differ and shall not.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("bounding_box_train/0002_c1s1_000451_03", "query/0001_c1s1_001051_00",
        ...                  "bounding_box_test/0001_c2s1_001976_01", "bounding_box_test/-1_c3s1_000401_03"):
        ...         file = pathlib.Path(root, f"{name}.jpg")
        ...         file.parent.mkdir(exist_ok=True)
        ...         file.touch()
        ...     records = read_market1501(root, counts="ignore")
        >>> [(record.identity, record.camera, record.split) for record in records]
        [(2, 1, 'train'), (1, 1, 'query'), (1, 2, 'gallery')]
    """
    check_policy("read_market1501", counts)
    tree, _ = locate("read_market1501", path, [(folder,) for folder in _PARTS.values()], _LAYOUT)
    records = named_records(
        "read_market1501", tree, _PARTS, _NAME, "<identity>_c<camera>s<sequence>_*.jpg"
    )
    people = [record for record in records if record.identity != -1]
    check_counts("read_market1501", people, _OFFICIAL, counts)
    return records if junk else people


_LAYOUT = "Market-1501's bounding_box_train, query and bounding_box_test"
_PARTS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)(?:s\d+)?_.*")
_OFFICIAL = {"train": (12936, 751), "query": (3368, 750), "gallery": (15913, 751)}
