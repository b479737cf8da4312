"""Stanford Online Products: things that were sold on a market place."""

import os

from clipreid_kit._checks import fail
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy, require_images
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord


def read_online_products(
    path: str | os.PathLike[str], *, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read ``Stanford_Online_Products/<category>_final/<image>.JPG`` by ``Ebay_{train,test}.txt``.

    Use it for Stanford Online Products (SOP). The zip archive is read in place. Each test image is a query
    among all the others: evaluate split ``test`` leave-one-out.

    Args:
        path: The folder or zip archive, or a folder above it.
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (59,551 images, 11,318 identities) and ``test`` (60,502, 11,316), in the
        lists' order; ``extra["category"]`` is such as ``bicycle``, identities are integers, there are no
        cameras.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), a row is none, an
            image is missing, or the counts differ and shall not.

    Example:
        >>> read_online_products("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_online_products: expected a folder or zip archive with Stanford Online Products' ...
    """
    check_policy("read_online_products", counts)
    tree, _ = locate("read_online_products", path, [(name,) for name in _LISTS.values()], _LAYOUT)
    records = [record for split, name in _LISTS.items() for record in _listed(tree, name, split)]
    check_counts(
        "read_online_products", records, {"train": (59551, 11318), "test": (60502, 11316)}, counts
    )
    return records


_LAYOUT = "Stanford Online Products' Ebay_train.txt and Ebay_test.txt"
_LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_HEADER = ["image_id", "class_id", "super_class_id", "path"]


def _listed(tree: FileTree, file: str, split: str) -> list[ImageRecord]:
    lines = [
        line.split()
        for line in tree.text("read_online_products", file).splitlines()
        if line.strip()
    ]
    if not lines or lines[0] != _HEADER:
        got = repr(" ".join(lines[0])) if lines else "an empty file"
        raise fail(
            "read_online_products",
            f"the header {' '.join(_HEADER)!r} in {file}",
            got,
            "Fetch the list again.",
        )
    for row in lines[1:]:
        if len(row) != len(_HEADER) or not row[1].isdecimal():
            expected = f"rows of {' '.join(_HEADER)} in {file}"
            raise fail(
                "read_online_products", expected, repr(" ".join(row)), "Fetch the list again."
            )
    require_images("read_online_products", tree, [row[3] for row in lines[1:]], file)
    return [
        ImageRecord(
            tree.path(row[3]),
            int(row[1]),
            split=split,
            extra={"category": row[3].split("/")[0].removesuffix("_final")},
        )
        for row in lines[1:]
    ]
