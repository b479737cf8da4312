"""The split folders of a folder or of a zip archive."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from clipreid_kit._read_files import is_file, is_folder
from clipreid_kit.data.files.file_tree import list_folder, open_tree
from clipreid_kit.data.readers._split_names import warn_of_near_folders

_OWNER = "find_split_folders"
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
    if is_file(path) and path.suffix.lower() == ".zip":
        found, folders = _folders_in_archive(path, names)
    elif is_folder(path):
        found = {name for name in names if is_folder(path / name)}
        folders = set(list_folder(_OWNER, path)[0])
    else:
        return []

    existing = [name for name in names if name in found]
    _warn_of_near_folders(names, existing, folders)
    return existing


def _folders_in_archive(path: Path, names: Sequence[str]) -> tuple[set[str], set[str]]:
    """Split folders of an archive, and all folders in it that may be split folders."""
    splits_in: dict[str, set[str]] = {}  # by the folder that holds them
    folders: set[str] = set()
    for file in open_tree(_OWNER, path, "split folders").names:
        upper = file.split("/")[:-1][: _DEEPEST + 1]
        folders.update(upper)
        for depth, folder in enumerate(upper):
            if folder in names:
                splits_in.setdefault("/".join(upper[:depth]), set()).add(folder)

    # The folder with most of them, of several the uppermost.
    uppermost = sorted(splits_in, key=lambda holder: (holder.count("/") if holder else -1, holder))
    found = max((splits_in[holder] for holder in uppermost), key=len, default=set())
    return found, folders


def _warn_of_near_folders(
    names: Sequence[str], existing: Sequence[str], folders: Iterable[str]
) -> None:
    """Warn of folders that are nearly a split that does not exist; the readers do of the others."""
    missing = [name for name in names if name not in existing]
    warn_of_near_folders(_OWNER, missing, set(folders).difference(existing))
