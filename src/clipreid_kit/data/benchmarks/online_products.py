"""Stanford Online Products: items that were sold on eBay."""

import os

from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._text_lists import bad_row, numbered_lines
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "Stanford Online Products' Ebay_train.txt and Ebay_test.txt"
_LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_HEADER = ["image_id", "class_id", "super_class_id", "path"]
_OFFICIAL = {"train": (59551, 11318), "test": (60502, 11316)}


def read_online_products(
    path: str | os.PathLike[str], *, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``Stanford_Online_Products/<category>_final/<image>.JPG`` by ``Ebay_{train,test}.txt``.

    Use it for Stanford Online Products (SOP). A zip archive is read in place. Each test image is a
    query among all others: evaluate split ``test`` leave-one-out.

    Args:
        path: The folder or zip archive, or a folder above it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (59,551 images, 11,318 identities) and ``test`` (60,502,
        11,316), in the order of the lists. Identities are integers, ``extra["category"]`` is a name
        such as ``bicycle``; there are no cameras.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a row has another form, an image is missing, or the numbers differ and
            ``counts="raise"``.

    Example:
        >>> read_online_products("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_online_products: there is nothing at no/such/folder; expected ...
    """
    check_policy("read_online_products", counts)
    tree, _ = locate("read_online_products", path, [(name,) for name in _LISTS.values()], _LAYOUT)

    records = []
    for split, file in _LISTS.items():
        records += _read_list(tree, file, split)

    check_counts("read_online_products", records, _OFFICIAL, counts)
    return records


def _read_list(tree: FileTree, file: str, split: str) -> list[ImageRecord]:
    """Read the records of a list, whose first row is a header."""
    lines = list(numbered_lines("read_online_products", tree, file))
    header = lines[0][1].split() if lines else []
    if header != _HEADER:
        found = " ".join(header) if lines else "an empty file"
        raise ValueError(
            f"read_online_products: {file} has to begin with {' '.join(_HEADER)!r}, found "
            f"{found!r}. Download the list again."
        )

    images: list[str] = []
    records: list[ImageRecord] = []
    for number, line in lines[1:]:
        cells = line.split()
        if len(cells) != len(_HEADER) or not cells[1].isdecimal():
            raise bad_row("read_online_products", file, " ".join(_HEADER), number, line)

        _, identity, _, image = cells
        category = image.split("/")[0].removesuffix("_final")
        images.append(image)
        records.append(
            ImageRecord(tree.path(image), int(identity), split=split, extra={"category": category})
        )

    require_images("read_online_products", tree, images, file)
    return records
