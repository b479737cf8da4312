"""Benchmarks with a folder for each split and identity and camera in the file names."""

import re
from collections.abc import Mapping

from clipreid_kit._checks import fail
from clipreid_kit.data.files.file_tree import FileTree
from clipreid_kit.data.records import ImageRecord


def named_records(
    owner: str, tree: FileTree, parts: Mapping[str, str], name: re.Pattern[str], shown: str
) -> list[ImageRecord]:
    """Read every image of the folders; ``name`` has the groups ``identity`` and ``camera``, both whole numbers."""
    records = []
    for split, folder in parts.items():
        images = tree.images(folder)
        found = [(image, name.fullmatch(image.rpartition("/")[2])) for image in images]
        stray = [image for image, match in found if match is None]
        if stray or not images:
            got = (
                f"{len(stray)} named otherwise, such as {stray[0]}"
                if stray
                else f"none in {tree.path(folder)}"
            )
            raise fail(
                owner,
                f"images named {shown} in {folder}",
                got,
                "Remove them or fetch the set again.",
            )
        records += [
            ImageRecord(
                tree.path(image), int(match["identity"]), camera=int(match["camera"]), split=split
            )
            for image, match in found
            if match is not None
        ]
    return records
