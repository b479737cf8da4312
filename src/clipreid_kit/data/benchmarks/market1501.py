"""Market-1501: persons in front of a supermarket, six cameras."""

import os
import re

from clipreid_kit.data.benchmarks._camera_in_name import records_by_name
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "Market-1501's bounding_box_train, query and bounding_box_test"
_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)(?:s\d+)?_.*")
_OFFICIAL = {"train": (12936, 751), "query": (3368, 750), "gallery": (15913, 751)}
_JUNK = -1


def read_market1501(
    path: str | os.PathLike[str], *, junk: bool = False, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``Market-1501-v15.09.15/<folder>/<identity>_c<camera>s*.jpg``.

    Use it for Market-1501 and every data set in its layout. The folders are ``bounding_box_train``,
    ``query`` and ``bounding_box_test``. A zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        junk: Whether to keep the 3,819 gallery boxes of identity -1. Every published evaluation
            ignores them; to ignore them in the evaluator, pass ``junk_ids=(-1,)`` to it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (12,936 images, 751 identities), ``query`` (3,368, 750) and
        ``gallery`` (15,913, 751; identity 0 are distractors), ordered by split and name. Identities
        are integers, cameras integers from 1 to 6.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            or the numbers differ and ``counts="raise"``.

    Example:
        >>> import pathlib, tempfile
        >>> names = (
        ...     "bounding_box_train/0002_c1s1_000451_03.jpg",
        ...     "query/0001_c1s1_001051_00.jpg",
        ...     "bounding_box_test/0001_c2s1_001976_01.jpg",
        ...     "bounding_box_test/-1_c3s1_000401_03.jpg",
        ... )
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in names:
        ...         file = pathlib.Path(root, name)
        ...         file.parent.mkdir(exist_ok=True)
        ...         file.touch()
        ...     records = read_market1501(root, counts="ignore")
        >>> [(record.identity, record.camera, record.split) for record in records]
        [(2, 1, 'train'), (1, 1, 'query'), (1, 2, 'gallery')]
    """
    check_policy("read_market1501", counts)
    needed = [(folder,) for folder in _FOLDERS.values()]
    tree, _ = locate("read_market1501", path, needed, _LAYOUT)

    form = "<identity>_c<camera>s<sequence>_*.jpg"
    records = records_by_name("read_market1501", tree, _FOLDERS, _NAME, form)

    without_junk = [record for record in records if record.identity != _JUNK]
    check_counts("read_market1501", without_junk, _OFFICIAL, counts)
    return records if junk else without_junk
