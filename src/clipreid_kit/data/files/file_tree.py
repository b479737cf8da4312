"""File tree: the files below a folder or inside a zip archive, read in one way for both."""

import os
import zipfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipreid_kit.data.files.archives import describe_error, open_archive, unreadable

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class FileTree:
    """Files below a folder or in a zip archive.

    Attributes:
        root: Path of the folder or archive.
        names: Names of the files relative to ``root``, with ``/``, sorted.
        prefix: Text in front of a name in a record's path.
        archive: Path of the zip archive; ``None`` for a folder.
    """

    root: str
    names: tuple[str, ...]
    prefix: str
    archive: str | None = None

    def path(self, name: str) -> str:
        """Return the path of a file as a record has it."""
        return self.prefix + (name if self.archive else name.replace("/", os.sep))

    def below(self, folder: str) -> tuple[str, ...]:
        """Return the names of all files below a folder."""
        # The names are sorted, and "0" is the character after "/".
        start = bisect_left(self.names, f"{folder}/")
        end = bisect_left(self.names, f"{folder}0", start)
        return self.names[start:end]

    def images(self, folder: str) -> list[str]:
        """Return the names of all images below a folder, without hidden files."""
        return [name for name in self.below(folder) if is_image(name)]

    def read(self, owner: str, name: str) -> bytes:
        """Read a file of the tree."""
        path = self.path(name)
        try:
            if self.archive is None:
                return Path(path).read_bytes()
            return open_archive(self.archive).read(path.removeprefix(f"{self.archive}::"))
        # Damaged members raise zlib.error, lzma.LZMAError and others without a common class.
        except Exception as error:
            remedy = "Restore the file."
            raise unreadable(owner, path, describe_error(error), remedy) from error

    def text(self, owner: str, name: str) -> str:
        """Read a UTF-8 text file of the tree."""
        try:
            return self.read(owner, name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = f"it is not UTF-8 text ({error})"
            raise unreadable(owner, self.path(name), reason, "Download it again.") from error


def is_image(name: str) -> bool:
    """Return whether a file name is that of an image and not hidden."""
    last = name.rpartition("/")[2]
    return last.lower().endswith(IMAGE_SUFFIXES) and not last.startswith(".")


def open_tree(owner: str, path: str | os.PathLike[str], layout: str) -> FileTree:
    """List the files of a folder, or of a zip archive, which is not unpacked.

    ``layout`` names the expected content, for errors.
    """
    root = Path(path)
    if root.is_dir():
        return FileTree(str(root), _names_in_folder(root), f"{root}{os.sep}")

    if not root.exists():
        raise ValueError(
            f"{owner}: there is nothing at {root}; expected a folder or zip archive with {layout}. "
            "Correct the path."
        )

    names = _names_in_archive(owner, root, layout)
    if root.suffix.lower() != ".zip":
        raise ValueError(f"{owner}: the name of a zip archive has to end in .zip: rename {root}.")

    return FileTree(str(root), names, f"{root}::", archive=str(root))


def locate(
    owner: str, path: str | os.PathLike[str], needed: Sequence[tuple[str, ...]], layout: str
) -> tuple[FileTree, list[str]]:
    """Find the folder that holds every needed file or folder, at most two levels down.

    ``needed`` lists alternatives for each. Returns the tree below that folder and the alternatives
    that exist. ``layout`` names the needed files, for errors.
    """
    tree = open_tree(owner, path, layout)
    existing = _files_and_folders(tree)

    fewest_missing: list[str] | None = None
    for base in _folders_to_search(tree):
        found = _choose_existing(base, needed, existing)
        if all(found):
            return _subtree(tree, base), found

        missing = []
        for options, option in zip(needed, found, strict=True):
            if not option:
                missing.append(" or ".join(options))
        if fewest_missing is None or len(missing) < len(fewest_missing):
            fewest_missing = missing

    raise ValueError(
        f"{owner}: expected {layout} in {tree.root}, found {_describe_top_level(tree)}; missing: "
        f"{', '.join(fewest_missing or [])}. Pass the folder that holds these, the folder above "
        "it, or a zip archive of it."
    )


def _names_in_folder(root: Path) -> tuple[str, ...]:
    """Return the sorted names of all files below a folder; hidden folders are not entered."""
    names: list[str] = []
    for parent, folders, files in os.walk(root, followlinks=True):
        # os.walk enters the folders that are left in this list.
        folders[:] = [name for name in folders if _is_to_enter(parent, name)]

        inside = os.path.relpath(parent, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        names.extend(prefix + name for name in files)

    return tuple(sorted(names))


def _is_to_enter(parent: str, name: str) -> bool:
    """Return whether a folder is not hidden, and no link to a folder that it lies in."""
    if name.startswith("."):
        return False

    # Following a link to a folder above would never end.
    folder = Path(parent, name)
    return not (folder.is_symlink() and Path(parent).resolve().is_relative_to(folder.resolve()))


def _names_in_archive(owner: str, root: Path, layout: str) -> tuple[str, ...]:
    """Return the sorted names of all files in a zip archive, without those that macOS adds."""
    try:
        members = open_archive(str(root)).namelist()
    except (OSError, zipfile.BadZipFile) as error:
        remedy = f"Download the archive with {layout} again, or pass the unpacked folder."
        raise unreadable(owner, root, describe_error(error), remedy) from error

    files = [name for name in members if not name.endswith("/")]
    return tuple(sorted(name for name in files if not name.startswith("__MACOSX/")))


def _files_and_folders(tree: FileTree) -> set[str]:
    """Return the names of all files of a tree and of all folders that hold one."""
    existing: set[str] = set()
    for name in tree.names:
        parts = name.split("/")
        existing.update("/".join(parts[:length]) for length in range(1, len(parts) + 1))
    return existing


def _folders_to_search(tree: FileTree) -> list[str]:
    """Return the top folder and those at most two levels down, each with ``/``, nearest first."""
    folders: set[str] = set()
    for name in tree.names:
        parts = name.split("/")
        for depth in (1, 2):
            if len(parts) > depth:
                folders.add("/".join(parts[:depth]) + "/")

    return ["", *sorted(folders, key=lambda folder: (folder.count("/"), folder))]


def _choose_existing(base: str, needed: Sequence[tuple[str, ...]], existing: set[str]) -> list[str]:
    """Return, for each needed file, the first alternative that exists in a folder, or ``""``."""
    chosen = []
    for options in needed:
        there = [option for option in options if base + option in existing]
        chosen.append(there[0] if there else "")
    return chosen


def _subtree(tree: FileTree, base: str) -> FileTree:
    """Return the part of a tree below a folder."""
    names = [name.removeprefix(base) for name in tree.names if name.startswith(base)]
    inner = base if tree.archive else base.replace("/", os.sep)
    return FileTree(tree.root, tuple(names), tree.prefix + inner, tree.archive)


def _describe_top_level(tree: FileTree) -> str:
    """Name the first files and folders of a tree, for an error."""
    top_level = set()
    for name in tree.names:
        first, slash, _ = name.partition("/")
        top_level.add(first + slash)

    if not top_level:
        return "no files"
    more = ", ..." if len(top_level) > 6 else ""
    return ", ".join(sorted(top_level)[:6]) + more
