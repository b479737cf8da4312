"""PKU VehicleID: vehicles from the front and from behind; cameras are not told."""

import os
from typing import Literal

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.benchmarks._counts import Policy, check_counts, check_policy, require_images
from clipreid_kit.data.files.file_tree import FileTree, locate
from clipreid_kit.data.records import ImageRecord


def read_vehicleid(
    path: str | os.PathLike[str],
    *,
    test_identities: Literal[800, 1600, 2400, 3200, 6000, 13164] = 800,
    counts: Policy = "warn",
) -> list[ImageRecord]:
    """Read ``VehicleID_V1.0/image/<image>.jpg`` by ``train_test_split/{train_list,test_list_<n>}.txt``.

    Use it for VehicleID. A row of a list is ``<image> <vehicle>``. The protocol draws one image of every test
    vehicle for the gallery, ten times, all others are queries: make these splits with
    :func:`split_query_gallery`. A zip archive is read in place.

    Args:
        path: The folder or zip archive, or a folder above it.
        test_identities: Which test list: 800 (small), 1600 (medium), 2400 (large), or one of the longer ones.
        counts: If a split has other than its official numbers: ``"warn"``, ``"raise"`` a ``ValueError``, or
            ``"ignore"`` it, for a part of the set.

    Returns:
        Records with splits ``train`` (113,346 images, 13,164 identities in the released list; the paper
        counts 110,178 and 13,134) and ``test``, in the lists' order; integers for identities, no cameras. For
        ``test`` the number of identities is checked, not that of images.

    Raises:
        ValueError: If the layout is another one (what was looked for and what was found), a row is none, an
            image is missing, or the counts differ and shall not.

    Example:
        >>> read_vehicleid("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: read_vehicleid: expected a folder or zip archive with VehicleID's image/ and ...
    """
    check_policy("read_vehicleid", counts)
    check_choice("read_vehicleid", "test_identities", str(test_identities), _SIZES)
    lists = {
        "train": "train_test_split/train_list.txt",
        "test": f"train_test_split/test_list_{test_identities}.txt",
    }
    layout = f"VehicleID's image/ and {' and '.join(lists.values())}"
    tree, _ = locate(
        "read_vehicleid", path, [("image",), *((name,) for name in lists.values())], layout
    )
    records = [record for split, name in lists.items() for record in _listed(tree, name, split)]
    check_counts(
        "read_vehicleid",
        records,
        {"train": (113346, 13164), "test": (None, test_identities)},
        counts,
    )
    return records


_SIZES = ("800", "1600", "2400", "3200", "6000", "13164")


def _listed(tree: FileTree, file: str, split: str) -> list[ImageRecord]:
    rows = []
    for number, line in enumerate(tree.text("read_vehicleid", file).splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 2 or not cells[1].isdecimal():
            got = f"{line!r} in row {number}"
            raise fail(
                "read_vehicleid",
                f"rows of <image> <vehicle> in {file}",
                got,
                "Fetch the list again.",
            )
        rows.append((f"image/{cells[0]}.jpg", int(cells[1])))
    require_images("read_vehicleid", tree, [image for image, _ in rows], file)
    return [ImageRecord(tree.path(image), vehicle, split=split) for image, vehicle in rows]
