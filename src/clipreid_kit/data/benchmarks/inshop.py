"""DeepFashion In-shop Clothes Retrieval: items of a shop, photographed several times."""

import os
import re

from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._text_lists import bad_row, numbered_lines
from clipreid_kit.data.files.file_tree import FileTree, locate, open_tree
from clipreid_kit.data.records import ImageRecord

_LAYOUT = "In-shop's Eval/list_eval_partition.txt and Img/img"
_LISTS = ("Eval/list_eval_partition.txt", "list_eval_partition.txt")
_IMAGES = ("Img/img", "img", "Img/img.zip", "img.zip")
_NAME = re.compile(
    r"img/(?P<sex>[^/]+)/(?P<category>[^/]+)/[^/]+/(?P<variant>\d+)_\d+_(?P<view>[a-z]+)\.[^/.]+"
)
_OFFICIAL = {"train": (25882, 3997), "query": (14218, 3985), "gallery": (12612, 3985)}


def read_inshop(path: str | os.PathLike[str], *, counts: Policy = "warn") -> list[ImageRecord]:
    """Read the images that ``Eval/list_eval_partition.txt`` lists.

    Use it for the In-shop benchmark. The images are
    ``Img/img/<SEX>/<Category>/<item>/<variant>_<n>_<view>.jpg``; they may also be in ``img/``, or
    in ``img.zip`` as it is downloaded, which is read in place.

    Args:
        path: The folder with ``Eval`` and ``Img``, a folder above it, or a zip archive of it.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (25,882 images, 3,997 items), ``query`` (14,218, 3,985) and
        ``gallery`` (12,612, 3,985), in the order of the list. ``identity`` is the item such as
        ``"id_00000002"``, ``view`` is ``front``, ``side``, ``back``, ``full``, ``flat`` or
        ``additional``; ``extra`` has ``sex``, ``category`` and ``variant`` (the colour: a third of
        the items has several). There are no cameras and no validation images: see
        :func:`hold_out_identities` and :func:`split_images`.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a row has another form, an image is missing, or the numbers differ and
            ``counts="raise"``.

    Example:
        >>> read_inshop("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_inshop: there is nothing at no/such/folder; expected ...
    """
    check_policy("read_inshop", counts)
    tree, (file, images) = locate("read_inshop", path, [_LISTS, _IMAGES], _LAYOUT)
    rows = _read_list(tree, file)

    tree, prefix = _image_tree(tree, images)
    require_images("read_inshop", tree, [prefix + image for image, _, _ in rows], file)

    records = []
    for image, item, split in rows:
        view, extra = _fields_of_name(image)
        records.append(
            ImageRecord(tree.path(prefix + image), item, view=view, split=split, extra=extra)
        )
    check_counts("read_inshop", records, _OFFICIAL, counts)
    return records


def _image_tree(tree: FileTree, images: str) -> tuple[FileTree, str]:
    """Return the tree that holds the images, and the prefix of their names in the list."""
    if not images.endswith(".zip"):
        return tree, images.removesuffix("img")

    if tree.archive is not None:
        raise ValueError(
            f"read_inshop: the images are in an archive inside an archive, {tree.path(images)}. "
            "Unpack the outer archive."
        )
    return open_tree("read_inshop", tree.path(images), _LAYOUT), ""


def _fields_of_name(image: str) -> tuple[str | None, dict[str, str]]:
    """Return the view, and the sex, category and variant, that the path of an image names."""
    match = _NAME.fullmatch(image)
    if match is None:
        return None, {}
    return match["view"], {key: match[key] for key in ("sex", "category", "variant")}


def _read_list(tree: FileTree, file: str) -> list[tuple[str, str, str]]:
    """Read (image, item, split) of each row, below the number of rows and the column names."""
    lines = list(numbered_lines("read_inshop", tree, file))
    if len(lines) < 2 or not lines[0][1].isdecimal():
        found = repr(lines[0][1]) if lines else "an empty file"
        raise ValueError(
            f"read_inshop: {file} has to begin with the number of rows and a header, found "
            f"{found}. Download the list again."
        )

    rows: list[tuple[str, str, str]] = []
    for number, line in lines[2:]:
        cells = line.split()
        if len(cells) != 3 or cells[2] not in _OFFICIAL:
            form = "<image> <item> train|query|gallery"
            raise bad_row("read_inshop", file, form, number, line)
        rows.append((cells[0], cells[1], cells[2]))

    num_rows = int(lines[0][1])
    if len(rows) != num_rows:
        raise ValueError(
            f"read_inshop: {file} has {len(rows)} rows, and {num_rows} according to its first "
            "line. Download the list again."
        )
    return rows
