"""Check of the file that a table is written to: no image is replaced by one."""

import os
from collections.abc import Iterable
from pathlib import Path

from clipreid_kit._read_files import exists
from clipreid_kit.data.files.archives import split_member
from clipreid_kit.data.files.image_suffixes import (
    AVIF_SUFFIXES,
    HEIF_SUFFIXES,
    IMAGE_SUFFIXES,
)

_SUFFIXES = (*IMAGE_SUFFIXES, *AVIF_SUFFIXES, *HEIF_SUFFIXES, ".zip")


def check_target(owner: str, target: str | os.PathLike[str], images: Iterable[str] = ()) -> None:
    """Require a file that is no image, no archive, and none of the images that the table names.

    Links are followed. ``images`` are the paths of records.

    Raises:
        ValueError: If the table would replace such a file.
    """
    exists(target)  # refuses names that cannot be
    real = Path(os.path.realpath(target))
    if real.suffix.lower() in _SUFFIXES:
        raise ValueError(
            f"{owner}: {os.fspath(target)} has the name of an image or archive. Write to a file of "
            "another name."
        )

    # Only files of equal names are compared: a table may name millions of images.
    names = {real.name, Path(target).name}
    for path in images:
        file, _ = split_member(path)
        if os.path.basename(file) in names and _is_same(real, file):  # noqa: PTH119 (faster)
            raise ValueError(
                f"{owner}: {os.fspath(target)} is the file of an image of the records ({path}). "
                "Write to another file."
            )


def _is_same(file: Path, other: str) -> bool:
    """Return whether two names are of one existing file."""
    try:
        return file.samefile(other)
    except (OSError, ValueError):
        return False
