"""MSMT17: persons on a campus, fifteen cameras."""

import os
import re

from clipreid_kit._checks import fail
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy, require_images
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord


def read_msmt17(
    path: str | os.PathLike[str], *, merge_val: bool, counts: Policy = "warn"
) -> list[ImageRecord]:
    """Read MSMT17 by its lists ``list_{train,val,query,gallery}.txt``, version 1 or 2.

    Use it for MSMT17. Version 1 keeps its images in ``train`` and ``test``, version 2 in ``mask_train_v2`` and
    ``mask_test_v2``. A row of a list is ``<folder>/<name> <label>``, and the third part of a name is the
    camera. A zip archive is read in place.

    Labels begin at 0 in training and again in test, so identities are ``"train/12"`` and ``"test/12"``: two
    persons.

    Args:
        path: The folder or zip archive, or a folder above it.
        merge_val: Whether ``list_val.txt`` is trained on. ``True`` is what CLIP-ReID and most transformer
            papers report (32,621 training images); ``False`` keeps it as split ``val`` (30,248 + 2,373). Its
            identities are those of ``train``: it tells nothing about unseen ones.
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (1,041 identities), ``val`` unless merged, ``query`` (11,659 images,
        3,060 identities) and ``gallery`` (82,161, 3,060), in the lists' order; cameras 1 to 15 as integers.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), a row is none, an
            image is missing, or the counts differ and shall not.

    Example:
        >>> read_msmt17("no/such/folder", merge_val=True)
        Traceback (most recent call last):
        ...
        ValueError: read_msmt17: expected a folder or zip archive with MSMT17's train and test ...
    """
    check_policy("read_msmt17", counts)
    lists = [(f"list_{name}.txt",) for name in ("train", "val", "query", "gallery")]
    tree, found = locate("read_msmt17", path, [*_FOLDERS, *lists], _LAYOUT)
    train, test = found[:2]
    records = [
        *_listed(tree, "train", train, "train"),
        *_listed(tree, "val", train, "train" if merge_val else "val"),
        *_listed(tree, "query", test, "query"),
        *_listed(tree, "gallery", test, "gallery"),
    ]
    # 30,248 is what others count in list_train.txt; list_val.txt holds the rest of the published 32,621
    trained: dict[str, tuple[int | None, int | None]] = (
        {"train": (32621, 1041)} if merge_val else {"train": (30248, 1041), "val": (2373, None)}
    )
    check_counts(
        "read_msmt17",
        records,
        {**trained, "query": (11659, 3060), "gallery": (82161, 3060)},
        counts,
    )
    return records


_LAYOUT = (
    "MSMT17's train and test (version 2: mask_train_v2 and mask_test_v2) and its four list_*.txt"
)
_FOLDERS = [("train", "mask_train_v2", "mask_train_V2"), ("test", "mask_test_v2", "mask_test_V2")]
_ROW = re.compile(
    r"(?P<file>(?:[^/\s]+/)*[^_/\s]+_[^_/\s]+_(?P<camera>\d+)_[^/\s]+)\s+(?P<label>\d+)"
)


def _listed(tree: FileTree, name: str, folder: str, split: str) -> list[ImageRecord]:
    file = f"list_{name}.txt"
    rows = []
    for number, line in enumerate(tree.text("read_msmt17", file).splitlines(), start=1):
        if not line.strip():
            continue
        match = _ROW.fullmatch(line.strip())
        if match is None:
            expected = f"rows of <folder>/<identity>_<number>_<camera>_* <label> in {file}"
            raise fail(
                "read_msmt17", expected, f"{line!r} in row {number}", "Fetch the list again."
            )
        rows.append((f"{folder}/{match['file']}", int(match["label"]), int(match["camera"])))
    require_images("read_msmt17", tree, [image for image, _, _ in rows], file)
    part = "test" if split in ("query", "gallery") else "train"
    return [
        ImageRecord(tree.path(image), f"{part}/{label}", camera=camera, split=split)
        for image, label, camera in rows
    ]
