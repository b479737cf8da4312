"""MSMT17: persons on a campus, fifteen cameras."""

import os
import re

from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._text_lists import bad_row, numbered_lines
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_LAYOUT = (
    "MSMT17's train and test (version 2: mask_train_v2 and mask_test_v2) and its four list_*.txt"
)
_TRAIN_FOLDERS = ("train", "mask_train_v2", "mask_train_V2")
_TEST_FOLDERS = ("test", "mask_test_v2", "mask_test_V2")
_LISTS = [(f"list_{name}.txt",) for name in ("train", "val", "query", "gallery")]

_ROW = re.compile(
    r"(?P<file>(?:[^/\s]+/)*[^_/\s]+_[^_/\s]+_(?P<camera>\d+)_[^/\s]+)\s+(?P<label>\d+)"
)

# The published number of training images is 32,621; 30,248 of them are counted in list_train.txt,
# so list_val.txt holds the rest.
_OFFICIAL_TEST = {"query": (11659, 3060), "gallery": (82161, 3060)}
_OFFICIAL_MERGED = {"train": (32621, 1041)}
_OFFICIAL_APART = {"train": (30248, 1041), "val": (2373, None)}


def read_msmt17(
    path: str | os.PathLike[str], *, merge_val: bool, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read MSMT17 by its lists ``list_{train,val,query,gallery}.txt``, version 1 or 2.

    Use it for MSMT17. Version 1 keeps its images in ``train`` and ``test``, version 2 in
    ``mask_train_v2`` and ``mask_test_v2``. A row of a list is ``<folder>/<name> <label>``, and the
    third part of a name is the camera. A zip archive is read in place.

    Labels begin at 0 in training and again in the test, so identities are ``"train/12"`` and
    ``"test/12"``: two persons.

    Args:
        path: The folder or zip archive, or a folder above it.
        merge_val: Whether ``list_val.txt`` is part of the training set. ``True`` is what CLIP-ReID
            and most transformer papers report (32,621 training images); ``False`` keeps it as split
            ``val`` (30,248 + 2,373). Its identities are those of ``train``, so it does not measure
            performance on unseen identities.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (1,041 identities), ``val`` unless merged, ``query`` (11,659
        images, 3,060 identities) and ``gallery`` (82,161, 3,060), in the order of the lists.
        Cameras are integers from 1 to 15.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a row has another form, an image is missing, or the numbers differ and
            ``counts="raise"``.

    Example:
        >>> read_msmt17("no/such/folder", merge_val=True)
        Traceback (most recent call last):
        ...
        ValueError: read_msmt17: there is nothing at no/such/folder; expected ...
    """
    check_policy("read_msmt17", counts)
    needed = [_TRAIN_FOLDERS, _TEST_FOLDERS, *_LISTS]
    tree, found = locate("read_msmt17", path, needed, _LAYOUT)
    train_folder, test_folder = found[:2]

    records = [
        *_read_list(tree, "train", train_folder, "train"),
        *_read_list(tree, "val", train_folder, "train" if merge_val else "val"),
        *_read_list(tree, "query", test_folder, "query"),
        *_read_list(tree, "gallery", test_folder, "gallery"),
    ]

    official_train = _OFFICIAL_MERGED if merge_val else _OFFICIAL_APART
    check_counts("read_msmt17", records, {**official_train, **_OFFICIAL_TEST}, counts)
    return records


def _read_list(tree: FileTree, name: str, folder: str, split: str) -> list[ImageRecord]:
    """Read the records of ``list_<name>.txt``, whose images are in a folder."""
    file = f"list_{name}.txt"
    part = "test" if split in ("query", "gallery") else "train"

    images: list[str] = []
    records: list[ImageRecord] = []
    for number, line in numbered_lines("read_msmt17", tree, file):
        match = _ROW.fullmatch(line)
        if match is None:
            form = "<folder>/<identity>_<number>_<camera>_* <label>"
            raise bad_row("read_msmt17", file, form, number, line)

        image = f"{folder}/{match['file']}"
        identity = f"{part}/{int(match['label'])}"
        images.append(image)
        records.append(
            ImageRecord(tree.path(image), identity, camera=int(match["camera"]), split=split)
        )

    require_images("read_msmt17", tree, images, file)
    return records
