"""DeepFashion In-shop Clothes Retrieval: items of a shop, photographed several times."""

import os
import re

from clipreid_kit._checks import fail
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy, require_images
from clipreid_kit.data.files.file_tree import FileTree, locate, open_tree
from clipreid_kit.data.records import ImageRecord


def read_inshop(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read ``Img/img/<SEX>/<Category>/<item>/<variant>_<n>_<view>.jpg`` by ``Eval/list_eval_partition.txt``.

    Use it for the In-shop benchmark. Images may also lie in ``img/``, or in ``img.zip`` as it is downloaded,
    which is read in place.

    Args:
        path: The folder with ``Eval`` and ``Img``, a folder above it, or a zip archive of it.
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (25,882 images, 3,997 items), ``query`` (14,218, 3,985) and ``gallery``
        (12,612, 3,985), in the list's order. ``identity`` is the item such as ``"id_00000002"``, ``view``
        ``front``, ``side``, ``back``, ``full``, ``flat`` or ``additional``; ``extra`` has ``sex``,
        ``category`` and ``variant`` (the colour: a third of the items comes in several). There are no
        cameras, and no validation images: see :func:`hold_out_identities` and :func:`split_images`.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), a row is none, an
            image is missing, or the counts differ and shall not.

    Example:
        >>> read_inshop("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_inshop: expected a folder or zip archive with In-shop's ...
    """
    check_policy("read_inshop", counts)
    tree, (table, images) = locate("read_inshop", path, [_TABLES, _IMAGES], _LAYOUT)
    rows = _rows(tree, table)
    prefix = images.removesuffix("img")
    if images.endswith(".zip"):
        if tree.archive is not None:
            remedy = "Unpack the outer archive."
            raise fail(
                "read_inshop",
                "images in a folder",
                f"an archive in an archive: {tree.path(images)}",
                remedy,
            )
        tree, prefix = open_tree("read_inshop", tree.path(images), _LAYOUT), ""
    require_images("read_inshop", tree, [prefix + name for name, _, _ in rows], table)
    records = []
    for name, item, split in rows:
        match = _NAME.fullmatch(name)
        extra = {key: match[key] for key in ("sex", "category", "variant")} if match else {}
        view = match["view"] if match else None
        records.append(
            ImageRecord(tree.path(prefix + name), item, view=view, split=split, extra=extra)
        )
    check_counts("read_inshop", records, _OFFICIAL, counts)
    return records


_LAYOUT = "In-shop's Eval/list_eval_partition.txt and Img/img"
_TABLES = ("Eval/list_eval_partition.txt", "list_eval_partition.txt")
_IMAGES = ("Img/img", "img", "Img/img.zip", "img.zip")
_NAME = re.compile(
    r"img/(?P<sex>[^/]+)/(?P<category>[^/]+)/[^/]+/(?P<variant>\d+)_\d+_(?P<view>[a-z]+)\.[^/.]+"
)
_OFFICIAL = {"train": (25882, 3997), "query": (14218, 3985), "gallery": (12612, 3985)}


def _rows(tree: FileTree, table: str) -> list[tuple[str, str, str]]:
    """Read (image, item, split) of each row, under a line with their number and one with the columns' names."""
    lines = [line.split() for line in tree.text("read_inshop", table).splitlines() if line.strip()]
    rows = lines[2:]
    if len(lines) < 2 or len(lines[0]) != 1 or not lines[0][0].isdecimal():
        got = "an empty file" if not lines else f"{' '.join(lines[0])!r} first"
        raise fail(
            "read_inshop",
            f"the number of rows, then a header, in {table}",
            got,
            "Fetch the list again.",
        )
    for row in rows:
        if len(row) != 3 or row[2] not in _OFFICIAL:
            expected = f"rows of <image> <item> train|query|gallery in {table}"
            raise fail("read_inshop", expected, repr(" ".join(row)), "Fetch the list again.")
    if len(rows) != int(lines[0][0]):
        expected = f"{lines[0][0]} rows in {table}, as its first line says"
        raise fail("read_inshop", expected, len(rows), "Fetch the list again.")
    return [(row[0], row[1], row[2]) for row in rows]
