"""HK PolyU hand dorsal images (HD): backs of right hands, with distractors."""

import os
import re

from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "HK PolyU's folders 1-501 and 502-712"
_SUBJECTS = "1-501"
_DISTRACTORS = "502-712"
_NAME = re.compile(r"(?P<identity>\d+)_.*")
_OFFICIAL = {"subject": (4650, 502), "distractor": (1342, 213)}

# Added to the numbers of distractors, which are also used for subjects.
_DISTRACTOR_OFFSET = 1000


def read_polyu_hands(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``HD/Original Images/{1-501,502-712}/<identity>_*.jpg``.

    Use it for the hand dorsal set of the Hong Kong Polytechnic University; make its splits with
    :func:`split_hands`. The persons of ``502-712`` are distractors: they belong to every gallery
    and match no query. A zip archive is read in place.

    Args:
        path: The folder ``Original Images`` or a zip archive of it, or a folder above it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records ordered by split, identity and name: split ``subject`` (4,650 images, 502
        identities) and split ``distractor`` (1,342 images, 213 identities, numbered from 1000 so
        that they are different from all subjects). Identities are integers, ``view`` is
        ``dorsal_r``; there are no cameras.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            or the numbers differ and ``counts="raise"``.

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
    needed = [(_SUBJECTS,), (_DISTRACTORS,)]
    tree, _ = locate("read_polyu_hands", path, needed, _LAYOUT)

    records = [
        *_read_part(tree, _SUBJECTS, "subject", offset=0),
        *_read_part(tree, _DISTRACTORS, "distractor", offset=_DISTRACTOR_OFFSET),
    ]
    check_counts("read_polyu_hands", records, _OFFICIAL, counts)
    return records


def _read_part(tree: FileTree, folder: str, split: str, offset: int) -> list[ImageRecord]:
    """Read the records of a folder, ordered by identity and name."""
    images: list[tuple[int, str]] = []
    for image in tree.images(folder):
        match = _NAME.fullmatch(image.rpartition("/")[2])
        if match is None:
            raise ValueError(
                f"read_polyu_hands: the image {image} is not named <identity>_*.jpg. Remove it or "
                "download the set again."
            )
        images.append((int(match["identity"]) + offset, image))

    if not images:
        raise ValueError(
            f"read_polyu_hands: there are no images in {tree.path(folder)}. Unpack the set again."
        )
    return [
        ImageRecord(tree.path(image), identity, view="dorsal_r", split=split)
        for identity, image in sorted(images)
    ]
