"""HK PolyU hand dorsal images (HD): backs of right hands, with distractors."""

import os
import re

from clipreid_kit._checks import fail
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import locate
from clipreid_kit.data.records import ImageRecord


def read_polyu_hands(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``HD/Original Images/{1-501,502-712}/<identity>_*.jpg``.

    Use it for the hand dorsal set of the Hong Kong Polytechnic University; make its splits with
    :func:`split_hands`. The persons of ``502-712`` are distractors: they belong into every gallery and are
    nobody's match. A zip archive is read in place.

    Args:
        path: The folder ``Original Images`` or a zip archive of it, or a folder above it.
        counts: If a part has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records ordered by part, identity and name: split ``subject`` (4,650 images, 502 identities) and split
        ``distractor`` (1,342 images, 213 identities, numbered from 1000 up so that they are no one else's).
        Identities are integers, ``view`` is ``dorsal_r``, there are no cameras.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), or the counts
            differ and shall not.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("1-501/7_1.jpg", "502-712/502_1.jpg"):
        ...         file = pathlib.Path(root, name)
        ...         file.parent.mkdir()
        ...         file.touch()
        ...     records = read_polyu_hands(root, counts="ignore")
        >>> [(record.identity, record.split) for record in records]
        [(7, 'subject'), (1502, 'distractor')]
    """
    check_policy("read_polyu_hands", counts)
    layout = "HK PolyU's folders 1-501 and 502-712"
    tree, _ = locate("read_polyu_hands", path, [(folder,) for folder, _, _ in _PARTS], layout)
    records = []
    for folder, split, offset in _PARTS:
        rows = []
        for image in tree.images(folder):
            match = _NAME.fullmatch(image.rpartition("/")[2])
            if match is None:
                remedy = "Remove it or fetch the set again."
                raise fail(
                    "read_polyu_hands", f"images named <identity>_*.jpg in {folder}", image, remedy
                )
            rows.append((int(match["identity"]) + offset, image))
        if not rows:
            raise fail(
                "read_polyu_hands",
                f"images in {tree.path(folder)}",
                "none",
                "Unpack the set again.",
            )
        records += [
            ImageRecord(tree.path(image), i, view="dorsal_r", split=split)
            for i, image in sorted(rows)
        ]
    check_counts(
        "read_polyu_hands", records, {"subject": (4650, 502), "distractor": (1342, 213)}, counts
    )
    return records


_PARTS = (("1-501", "subject", 0), ("502-712", "distractor", 1000))
_NAME = re.compile(r"(?P<identity>\d+)_.*")
