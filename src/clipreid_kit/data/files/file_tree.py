"""File tree: the files below a folder or inside a zip archive, read in one way for both."""

import os
import re
import warnings
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipreid_kit._read_files import describe_error
from clipreid_kit.data.files.archives import open_archive, read_bytes, unreadable
from clipreid_kit.data.files.image_suffixes import decodable_suffixes

# Folders that systems and programs add, with copies of images or what was deleted.
_ADDED_FOLDERS = frozenset(
    {
        "__macosx",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "lost+found",
        "recycled",
        "recycler",
        "system volume information",
    }
)

_DRIVE = re.compile(r"[A-Za-z]:/")

# Links may lead to one folder from many places; from more, they would fill the memory.
_MOST_VISITS = 1000


Folder = tuple[Path, list[str]]


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

    def folders(self) -> list[str]:
        """Return the names of the folders at the top that hold files, sorted."""
        return sorted({name.partition("/")[0] for name in self.names if "/" in name})

    def images(self, folder: str) -> list[str]:
        """Return the names of all images below a folder, without hidden files."""
        return [name for name in self.below(folder) if is_image(name)]

    def read(self, owner: str, name: str) -> bytes:
        """Read a file of the tree."""
        return read_bytes(owner, self.path(name), "Restore the file.")

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
    return last.lower().endswith(decodable_suffixes()) and not last.startswith(".")


def is_added_folder(name: str) -> bool:
    """Return whether a folder is hidden, or added by a system, so that no image in it is meant."""
    return name.startswith(".") or name.casefold() in _ADDED_FOLDERS


def walk_folder(
    owner: str, root: Path, dead_links: list[Path], inside: Path | None = None
) -> Iterator[Folder]:
    """Yield every folder below a folder, itself included, with the names of its files, sorted.

    Links are followed, also to folders outside; hidden and added folders are not entered, nor is a
    folder again inside itself, or inside ``inside``: all its images are read there already. Links
    to nothing are added to ``dead_links``.

    Raises:
        ValueError: If a folder cannot be read, or links lead to one folder from very many places.
    """
    visits: Counter[tuple[int, int]] = Counter()
    above = frozenset() if inside is None else frozenset({_real_folder(inside)})
    waiting = [(root, above)]

    while waiting:
        folder, above = waiting.pop()
        real = _real_folder(folder)
        if real in above:
            continue

        visits[real] += 1
        if visits[real] > _MOST_VISITS:
            raise ValueError(
                f"{owner}: links lead to {folder.resolve()} from more than {_MOST_VISITS} places, "
                f"such as {folder}. Remove them."
            )

        folders, files = list_folder(owner, folder, dead_links)
        yield folder, files
        waiting += [(folder / name, above | {real}) for name in reversed(folders)]


def _real_folder(folder: Path) -> tuple[int, int]:
    """Return numbers that are equal for all names of a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def list_folder(
    owner: str, folder: Path, dead_links: list[Path] | None = None
) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders to enter, and of the files, in a folder.

    Links to nothing are added to ``dead_links``, if there is such a list.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir():
                    files.append(entry.name)
                    if dead_links is not None and _is_dead_link(entry):
                        dead_links.append(folder / entry.name)
                elif not is_added_folder(entry.name):
                    folders.append(entry.name)
    except OSError as error:
        reason = describe_error(error)
        remedy = "Give read permission, or move the folder away."
        raise unreadable(owner, folder, reason, remedy) from error

    return sorted(folders), sorted(files)


def _is_dead_link(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a link to nothing, which may have been a folder of images."""
    # A link of an image is a record, and an error where the image is read.
    if entry.name.startswith(".") or is_image(entry.name):
        return False
    return entry.is_symlink() and not Path(entry.path).exists()


def warn_of_dead_links(owner: str, root: Path, links: Sequence[Path]) -> None:
    """Warn once of links to what is not there, such as a folder on a disk that is not mounted."""
    if not links:
        return

    names = sorted(os.path.relpath(link, root) for link in links)
    warnings.warn(
        f"{owner}: in {root}, links that lead nowhere are left out: {_first_of(names)}. If they "
        "are folders of images, restore what they lead to.",
        stacklevel=4,
    )


def open_tree(owner: str, path: str | os.PathLike[str], layout: str) -> FileTree:
    """List the files of a folder, or of a zip archive, which is not unpacked.

    ``layout`` names the expected content, for errors.
    """
    root = Path(path)
    try:
        is_folder = root.is_dir()
    except OSError as error:
        remedy = "Correct the path, or give permission to read the folders above it."
        raise unreadable(owner, root, describe_error(error), remedy) from error

    if is_folder:
        return FileTree(str(root), _names_in_folder(owner, root), f"{root}{os.sep}")

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


def _names_in_folder(owner: str, root: Path) -> tuple[str, ...]:
    """Return the sorted names of all files below a folder; hidden folders are not entered."""
    names: list[str] = []
    dead_links: list[Path] = []
    for folder, files in walk_folder(owner, root, dead_links):
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        names.extend(prefix + name for name in files)

    warn_of_dead_links(owner, root, dead_links)
    return tuple(sorted(names))


def _names_in_archive(owner: str, root: Path, layout: str) -> tuple[str, ...]:
    """Return the sorted names of all files in a zip archive, without those in added folders."""
    try:
        members = open_archive(str(root)).namelist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        remedy = f"Download the archive with {layout} again, or pass the unpacked folder."
        raise unreadable(owner, root, describe_error(error), remedy) from error

    files = [name for name in members if not name.endswith("/")]
    outside = [name for name in files if _leads_outside(name)]
    _warn_of_members(owner, root, outside, "members whose names lead out of it are not")

    archives = [name for name in files if name.lower().endswith(".zip")]
    _warn_of_members(owner, root, archives, "archives inside it are not")

    repeated = [name for name, count in Counter(files).items() if count > 1]
    _warn_of_members(owner, root, repeated, "the last of several members of one name is")

    names = {name for name in files if not _is_in_added_folder(name)}.difference(outside)
    visible = {name for name in names if not _is_in_hidden_folder(name)}
    # An archive of a folder that is hidden itself is read.
    return tuple(sorted(visible or names))


def _leads_outside(name: str) -> bool:
    """Return whether the name of a member is absolute, or goes up a folder."""
    return name.startswith("/") or ".." in name.split("/") or bool(_DRIVE.match(name))


def _is_in_added_folder(name: str) -> bool:
    """Return whether a member lies in a folder that a system added."""
    folders = name.split("/")[:-1]
    return any(folder.casefold() in _ADDED_FOLDERS for folder in folders)


def _is_in_hidden_folder(name: str) -> bool:
    """Return whether a member lies in a hidden folder, which is not entered on disk either."""
    # "./" is how some programs begin every name.
    folders = name.split("/")[:-1]
    return any(folder.startswith(".") and folder != "." for folder in folders)


def _warn_of_members(owner: str, root: Path, names: Sequence[str], problem: str) -> None:
    """Warn of members that are not read as they are."""
    if not names:
        return

    warnings.warn(
        f"{owner}: in {root}, {problem} read: {_first_of(names)}. Pack the archive again.",
        stacklevel=4,
    )


def _first_of(names: Sequence[str]) -> str:
    """Return the first names, for a warning."""
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])


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
