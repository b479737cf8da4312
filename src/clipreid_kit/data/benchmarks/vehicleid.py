"""PKU VehicleID: vehicles from the front and from behind, without camera labels."""

import os
from typing import Literal

from clipreid_kit._checks import check_choice
from clipreid_kit.data.benchmarks._listed_images import require_images
from clipreid_kit.data.benchmarks._official_counts import Policy, check_counts, check_policy
from clipreid_kit.data.benchmarks._text_lists import bad_row, numbered_lines
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord

_SIZES = ("800", "1600", "2400", "3200", "6000", "13164")


def read_vehicleid(
    path: str | os.PathLike[str],
    *,
    test_identities: Literal[800, 1600, 2400, 3200, 6000, 13164] = 800,
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``VehicleID_V1.0/image/<image>.jpg`` by the lists in ``train_test_split``.

    Use it for VehicleID. A row of a list is ``<image> <vehicle>``. The protocol draws one image of
    every test vehicle for the gallery, ten times, and all others are queries: make these splits
    with :func:`split_query_gallery`. A zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        test_identities: Test list to read: 800 (small), 1600 (medium), 2400 (large), or one of the
            longer lists.
        counts: Whether a split with other than its official numbers is a warning (``"warn"``), an
            error (``"raise"``) or allowed (``"ignore"``, for a part of the set).

    Returns:
        Records with splits ``train`` (113,346 images, 13,164 identities in the released list; the
        paper counts 110,178 and 13,134) and ``test``, in the order of the lists. Identities are
        integers; there are no cameras. For ``test`` only the number of identities is checked.

    Raises:
        ValueError: If the layout is different (the message names the expected and the found files),
            a row has another form, an image is missing, or the numbers differ and
            ``counts="raise"``.

    Example:
        >>> read_vehicleid("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_vehicleid: there is nothing at no/such/folder; expected ...
    """
    check_policy("read_vehicleid", counts)
    check_choice("read_vehicleid", "test_identities", str(test_identities), _SIZES)

    train_list = "train_test_split/train_list.txt"
    test_list = f"train_test_split/test_list_{test_identities}.txt"
    layout = f"VehicleID's image/ and {train_list} and {test_list}"
    tree, _ = locate("read_vehicleid", path, [("image",), (train_list,), (test_list,)], layout)

    records = [*_read_list(tree, train_list, "train"), *_read_list(tree, test_list, "test")]
    official = {"train": (113346, 13164), "test": (None, test_identities)}
    check_counts("read_vehicleid", records, official, counts)
    return records


def _read_list(tree: FileTree, file: str, split: str) -> list[ImageRecord]:
    """Read the records of a list."""
    images: list[str] = []
    records: list[ImageRecord] = []

    for number, line in numbered_lines("read_vehicleid", tree, file):
        cells = line.split()
        if len(cells) != 2 or not cells[1].isdecimal():
            raise bad_row("read_vehicleid", file, "<image> <vehicle>", number, line)

        image = f"image/{cells[0]}.jpg"
        images.append(image)
        records.append(ImageRecord(tree.path(image), int(cells[1]), split=split))

    require_images("read_vehicleid", tree, images, file)
    return records
