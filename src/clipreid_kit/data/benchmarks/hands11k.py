"""11k Hands: both sides of both hands of 190 persons."""

import csv
import io
import os
from collections.abc import Sequence

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy, require_images
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord


def read_hands11k(
    path: str | os.PathLike[str],
    *,
    aspects: Sequence[str] = ("dorsal_r", "dorsal_l", "palmar_r", "palmar_l"),
    accessories: bool = False,
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``Hands/*.jpg`` by ``HandInfo.csv``.

    Use it for 11k Hands. Each aspect (side of the hand, and which hand) is a benchmark of its own, with the
    galleries of the others as distractors: read all four and make the splits with :func:`split_hands`.
    A stray blank in an id is removed. A zip archive is read in place.

    Args:
        path: The folder or zip archive that holds ``Hands`` and ``HandInfo.csv``, or a folder above it.
        aspects: Which aspects, in this order: of ``dorsal_r``, ``dorsal_l``, ``palmar_r``, ``palmar_l``.
        accessories: Whether to keep hands with rings and the like; the protocol leaves them out, as they tell
            identities apart.
        counts: If an aspect has other than its official numbers (without accessories): ``"warn"``,
            ``"raise"`` a ``ValueError``, or ``"ignore"`` it, for a part of the set.

    Returns:
        Records ordered by aspect and row: ``identity`` is the person as an integer, the same on all aspects;
        ``view`` the aspect; ``extra`` the table's other columns such as ``age``. No cameras, no splits.
        Officially 2,004 images of 143 persons (dorsal_r), 1,869 of 146 (dorsal_l), 1,965 of 143 (palmar_r),
        2,027 of 151 (palmar_l).

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), a row lacks a
            value, an image is missing, or the counts differ and shall not.

    Example:
        >>> read_hands11k("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_hands11k: expected a folder or zip archive with 11k Hands' Hands/ and HandInfo.csv, ...
    """
    check_policy("read_hands11k", counts)
    if isinstance(aspects, str) or not aspects:
        raise fail(
            "read_hands11k",
            "aspects as a sequence of names",
            repr(aspects),
            "One aspect: aspects=('dorsal_r',).",
        )
    for aspect in aspects:
        check_choice("read_hands11k", "aspects", aspect, tuple(_OFFICIAL))
    tree, _ = locate(
        "read_hands11k", path, [("Hands",), ("HandInfo.csv",)], "11k Hands' Hands/ and HandInfo.csv"
    )
    rows = [row for row in _rows(tree) if accessories or row["accessories"] == "0"]
    require_images("read_hands11k", tree, [row["imageName"] for row in rows], "HandInfo.csv")
    records = [
        ImageRecord(
            tree.path(row["imageName"]),
            int(row["id"]),
            view=aspect,
            extra={name: value for name, value in row.items() if name not in _NEEDED and value},
        )
        for aspect in aspects
        for row in rows
        if row["aspectOfHand"] == aspect
    ]
    if not accessories:
        official = {aspect: _OFFICIAL[aspect] for aspect in aspects}
        check_counts("read_hands11k", records, official, counts, field="view")
    return records


_NEEDED = ("id", "accessories", "imageName", "aspectOfHand")
_OFFICIAL = {
    "dorsal_r": (2004, 143),
    "dorsal_l": (1869, 146),
    "palmar_r": (1965, 143),
    "palmar_l": (2027, 151),
}
_ASPECTS = {
    "dorsal right": "dorsal_r",
    "dorsal left": "dorsal_l",
    "palmar right": "palmar_r",
    "palmar left": "palmar_l",
}


def _rows(tree: FileTree) -> list[dict[str, str]]:
    """Read the table: values without blanks around them, aspects by their short names, images with their folder."""
    reader = csv.DictReader(io.StringIO(tree.text("read_hands11k", "HandInfo.csv"), newline=""))
    header = reader.fieldnames or []
    lacking = [name for name in _NEEDED if name not in header]
    if lacking:
        expected = f"columns {', '.join(_NEEDED)} in HandInfo.csv"
        raise fail(
            "read_hands11k",
            expected,
            f"{', '.join(header) or 'an empty file'}",
            "Fetch the table again.",
        )
    rows = []
    for number, cells in enumerate(reader, start=2):
        row = {str(name): value.strip() for name, value in cells.items() if isinstance(value, str)}
        aspect = _ASPECTS.get(row.get("aspectOfHand", "").lower())
        if (
            aspect is None
            or not row.get("id", "").isdecimal()
            or not row.get("imageName")
            or "accessories" not in row
        ):
            expected = "an id, accessories, an image and one of the four aspects in each row of HandInfo.csv"
            raise fail(
                "read_hands11k", expected, f"{row} in row {number}", "Fetch the table again."
            )
        rows.append({**row, "aspectOfHand": aspect, "imageName": f"Hands/{row['imageName']}"})
    return rows
