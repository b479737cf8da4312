"""Benchmarks whose file names hold identity and camera, with a folder for each split."""

import re
from collections.abc import Mapping

from clipreid_kit.data.files.file_tree import FileTree
from clipreid_kit.data.records import ImageRecord


def records_by_name(
    owner: str,
    tree: FileTree,
    folder_of: Mapping[str, str],
    expression: re.Pattern[str],
    form: str,
) -> list[ImageRecord]:
    """Build a record of every image in the folders of the splits.

    ``folder_of`` maps splits to folders. ``expression`` matches file names and has the groups
    ``identity`` and ``camera``, both whole numbers; ``form`` describes it in errors.
    """
    records = []
    for split, folder in folder_of.items():
        images = tree.images(folder)
        if not images:
            raise ValueError(
                f"{owner}: there are no images in {tree.path(folder)}; expected images named "
                f"{form}. Unpack or download the set again."
            )

        matches = [expression.fullmatch(image.rpartition("/")[2]) for image in images]
        stray = [image for image, match in zip(images, matches, strict=True) if match is None]
        if stray:
            raise ValueError(
                f"{owner}: {len(stray)} images in {folder} are not named {form}, such as "
                f"{stray[0]}. Remove them or download the set again."
            )

        for image, match in zip(images, matches, strict=True):
            if match is not None:
                identity, camera = int(match["identity"]), int(match["camera"])
                records.append(ImageRecord(tree.path(image), identity, camera=camera, split=split))
    return records


def match_name(
    owner: str, tree: FileTree, image: str, expression: re.Pattern[str], form: str
) -> re.Match[str]:
    """Match the file name of an image.

    Raises:
        ValueError: If it is of another form than ``form``, which describes ``expression``.
    """
    match = expression.fullmatch(image.rpartition("/")[2])
    if match is None:
        raise ValueError(
            f"{owner}: {tree.path(image)} is not named {form}. Remove it or download the set again."
        )
    return match
