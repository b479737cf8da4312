"""11k Hands: both sides of both hands of 190 persons."""

import csv
import io
import os
from collections.abc import Sequence

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_TABLE = "HandInfo.csv"
_REQUIRED = ("id", "accessories", "imageName", "aspectOfHand")
_ASPECTS = {
    "dorsal right": "dorsal_r",
    "dorsal left": "dorsal_l",
    "palmar right": "palmar_r",
    "palmar left": "palmar_l",
}

# Images and identities of each aspect, without accessories.
_OFFICIAL = {
    "dorsal_r": (2004, 143),
    "dorsal_l": (1869, 146),
    "palmar_r": (1965, 143),
    "palmar_l": (2027, 151),
}


def read_hands11k(
    path: str | os.PathLike[str],
    *,
    aspects: Sequence[str] = ("dorsal_r", "dorsal_l", "palmar_r", "palmar_l"),
    accessories: bool = False,
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``Hands/*.jpg`` by the table ``HandInfo.csv``.

    Use it for 11k Hands. Each aspect (side of the hand, and which hand) is a benchmark of its own,
    with the galleries of the other aspects as distractors: read all four and make the splits with
    :func:`split_hands`. Spaces around an id are removed. A zip archive is read in place.

    Args:
        path: The folder or zip archive that holds ``Hands`` and ``HandInfo.csv``, or a folder above
            it.
        aspects: Aspects to read, in this order: of ``dorsal_r``, ``dorsal_l``, ``palmar_r`` and
            ``palmar_l``.
        accessories: Whether to keep hands with rings and other accessories. The protocol leaves
            them out, because accessories identify a person.
        counts: Whether an aspect with other than its official numbers (without accessories) is a
            warning (``"warn"``), an error (``"raise"``) or allowed (``"ignore"``, for a part of the
            set).

    Returns:
        Records ordered by aspect and row. ``identity`` is the person as an integer, the same in all
        aspects; ``view`` is the aspect; ``extra`` has the further columns of the table, such as
        ``age``. There are no cameras and no splits. Official numbers are 2,004 images of 143
        persons (dorsal_r), 1,869 of 146 (dorsal_l), 1,965 of 143 (palmar_r) and 2,027 of 151
        (palmar_l).

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a row lacks a value, an image is missing, or the numbers differ and ``counts="raise"``.

    Example:
        >>> read_hands11k("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_hands11k: there is nothing at no/such/folder; expected ...
    """
    check_policy("read_hands11k", counts)
    _check_aspects(aspects)

    layout = "11k Hands' Hands/ and HandInfo.csv"
    tree, _ = locate("read_hands11k", path, [("Hands",), (_TABLE,)], layout)
    rows = _read_table(tree)
    if not accessories:
        rows = [row for row in rows if row["accessories"] == "0"]
    require_images("read_hands11k", tree, [row["imageName"] for row in rows], _TABLE)

    records = []
    for aspect in aspects:
        records += [_record(tree, row) for row in rows if row["aspectOfHand"] == aspect]

    if not accessories:
        official = {aspect: _OFFICIAL[aspect] for aspect in aspects}
        check_counts("read_hands11k", records, official, counts, field="view")
    return records


def _check_aspects(aspects: Sequence[str]) -> None:
    """Require a sequence of known aspects, at least one."""
    if isinstance(aspects, str) or not aspects:
        remedy = "One aspect: aspects=('dorsal_r',)."
        raise fail("read_hands11k", "aspects as a sequence of names", repr(aspects), remedy)
    for aspect in aspects:
        check_choice("read_hands11k", "aspects", aspect, tuple(_OFFICIAL))


def _record(tree: FileTree, row: dict[str, str]) -> ImageRecord:
    """Build the record of a row."""
    extra = {name: value for name, value in row.items() if name not in _REQUIRED and value}
    return ImageRecord(
        tree.path(row["imageName"]), int(row["id"]), view=row["aspectOfHand"], extra=extra
    )


def _read_table(tree: FileTree) -> list[dict[str, str]]:
    """Read the rows without spaces around values, with short aspects and paths of images."""
    text = tree.text("read_hands11k", _TABLE)
    reader = csv.DictReader(io.StringIO(text, newline=""))

    header = reader.fieldnames or []
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        raise ValueError(
            f"read_hands11k: {_TABLE} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(header) or 'none'}. Download the table again."
        )

    rows = []
    for number, cells in enumerate(reader, start=2):
        row = {}
        for name, value in cells.items():
            if isinstance(value, str):  # None where the row is too short, a list where too long
                row[str(name)] = value.strip()
        _check_row(row, number)

        row["aspectOfHand"] = _ASPECTS[row["aspectOfHand"].lower()]
        row["imageName"] = f"Hands/{row['imageName']}"
        rows.append(row)
    return rows


def _check_row(row: dict[str, str], number: int) -> None:
    """Raise ValueError if a row lacks a value."""
    has_id = row.get("id", "").isdecimal()
    has_image = bool(row.get("imageName"))
    has_aspect = row.get("aspectOfHand", "").lower() in _ASPECTS
    if not (has_id and has_image and has_aspect and "accessories" in row):
        raise ValueError(
            f"read_hands11k: row {number} of {_TABLE} is {row}; expected an id, accessories, an "
            "image and one of the four aspects. Download the table again."
        )
