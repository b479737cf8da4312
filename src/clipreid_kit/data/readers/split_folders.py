"""The split folders of a folder or of a zip archive."""

import os
from collections.abc import Sequence
from pathlib import Path

from clipreid_kit.data.files.file_tree import open_tree

_DEEPEST = 2  # folders above the splits in an archive, as the readers look for them


def find_split_folders(root: str | os.PathLike[str], names: Sequence[str]) -> list[str]:
    """Find out which split folders a data set has, on disk or in a zip archive.

    Use it before :func:`read_folder` or :func:`read_captioned_folder` where some splits are
    optional, so that a folder and the same folder in a zip archive give the same splits.

    Args:
        root: The folder of the split folders, or a zip archive of it. In an archive they may lie
            up to two folders down.
        names: Names of splits that may exist.

    Returns:
        The names of those that exist, in the given order; none if there is nothing at ``root``.

    Raises:
        ValueError: If the archive is damaged.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("train", "query", "gallery"):
        ...         pathlib.Path(root, name).mkdir()
        ...     find_split_folders(root, ("train", "val", "query", "gallery"))
        ['train', 'query', 'gallery']
    """
    path = Path(root)
    if not (path.is_file() and path.suffix.lower() == ".zip"):
        return [name for name in names if (path / name).is_dir()]

    inside: dict[str, set[str]] = {}  # split folders by the folder that holds them
    for file in open_tree("find_split_folders", path, "split folders").names:
        folders = file.split("/")[:-1]
        for depth, folder in enumerate(folders[: _DEEPEST + 1]):
            if folder in names:
                inside.setdefault("/".join(folders[:depth]), set()).add(folder)

    # The folder with most of them, of several the uppermost.
    uppermost = sorted(inside, key=lambda folder: (folder.count("/") if folder else -1, folder))
    found = max((inside[folder] for folder in uppermost), key=len, default=set())
    return [name for name in names if name in found]
