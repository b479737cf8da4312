"""The files below a folder or inside a zip archive, so that a reader need not know which of the two it has."""

import os
import zipfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.files.archives import open_archive

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class FileTree:
    """Names of files, relative, with ``/`` and sorted; and what comes before them in a record's path."""

    place: str
    names: tuple[str, ...]
    prefix: str
    archive: str | None = None

    def path(self, name: str) -> str:
        """Give the path of a file as a record has it."""
        return self.prefix + (name if self.archive else name.replace("/", os.sep))

    def below(self, folder: str) -> tuple[str, ...]:
        """Give the names of the files in a folder and in those inside it."""
        start = bisect_left(self.names, f"{folder}/")
        return self.names[start : bisect_left(self.names, f"{folder}0", start)]  # "0" follows "/"

    def images(self, folder: str) -> list[str]:
        """Give the names of the images in a folder and in those inside it; hidden files are none."""
        return [name for name in self.below(folder) if is_image(name)]

    def read(self, owner: str, name: str) -> bytes:
        """Read a file of the tree."""
        try:
            if self.archive is None:
                return Path(self.path(name)).read_bytes()
            return open_archive(self.archive).read(
                self.path(name).removeprefix(f"{self.archive}::")
            )
        except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
            raise fail(
                owner, f"to read {self.path(name)}", f"{type(error).__name__}: {error}"
            ) from error

    def text(self, owner: str, name: str) -> str:
        """Read a text file of the tree as UTF-8."""
        try:
            return self.read(owner, name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise fail(
                owner, f"{self.path(name)} as UTF-8 text", str(error), "Fetch the file again."
            ) from error


def is_image(name: str) -> bool:
    """Whether a name is that of an image, and not hidden."""
    last = name.rpartition("/")[2]
    return last.lower().endswith(IMAGE_SUFFIXES) and not last.startswith(".")


def open_tree(owner: str, path: str | os.PathLike[str], layout: str) -> FileTree:
    """List the files of a folder, or of a zip archive, which is not unpacked."""
    place = Path(path)
    if place.is_dir():
        names = []
        for parent, folders, files in os.walk(place, followlinks=True):
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and not _leads_back(parent, name)
            ]
            inside = os.path.relpath(parent, place).replace(os.sep, "/")
            names += files if inside == "." else [f"{inside}/{name}" for name in files]
        return FileTree(str(place), tuple(sorted(names)), f"{place}{os.sep}")
    if not place.exists():
        raise fail(
            owner,
            f"a folder or zip archive with {layout}",
            f"nothing at {place}",
            "Correct the path.",
        )
    try:
        members = [name for name in open_archive(str(place)).namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        remedy = f"The archive holds {layout}; fetch it again, or give the unpacked folder."
        raise fail(owner, f"{place} to be a zip archive or a folder", str(error), remedy) from error
    if place.suffix.lower() != ".zip":
        raise fail(owner, "a zip archive whose name ends in .zip", str(place), "Rename it.")
    shown = tuple(sorted(name for name in members if not name.startswith("__MACOSX/")))
    return FileTree(str(place), shown, f"{place}::", archive=str(place))


def locate(
    owner: str, path: str | os.PathLike[str], needed: Sequence[tuple[str, ...]], layout: str
) -> tuple[FileTree, list[str]]:
    """Find the folder that holds every needed file or folder, at most two levels down.

    ``needed`` gives alternatives for each. Returns the tree below that folder and the alternatives that are there.
    """
    tree = open_tree(owner, path, layout)
    found = {name for full in tree.names for name in _steps(full)}
    bases = [
        "",
        *sorted(
            {"/".join(parts[:depth]) + "/" for depth in (1, 2) for parts in _folders(tree, depth)},
            key=_by_depth,
        ),
    ]
    best: tuple[int, list[str]] = (-1, [])
    for base in bases:
        chosen = [
            next((option for option in options if base + option in found), "") for options in needed
        ]
        if all(chosen):
            names = tuple(name.removeprefix(base) for name in tree.names if name.startswith(base))
            inner = base if tree.archive else base.replace("/", os.sep)
            return FileTree(tree.place, names, tree.prefix + inner, tree.archive), chosen
        missing = [
            " or ".join(options) for options, there in zip(needed, chosen, strict=True) if not there
        ]
        best = max(best, (len(needed) - len(missing), missing), key=lambda item: item[0])
    top = sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in tree.names})
    shown = f"{', '.join(top[:6])}{', ...' if len(top) > 6 else ''}" if top else "no files"
    raise fail(
        owner,
        f"{layout} in {tree.place}",
        f"{shown} there, without {', '.join(best[1])}",
        "Give the folder that holds these, the folder above it, or a zip archive of it.",
    )


def _leads_back(parent: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in: following it would never end."""
    folder = Path(parent, name)
    return folder.is_symlink() and Path(parent).resolve().is_relative_to(folder.resolve())


def _steps(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _folders(tree: FileTree, depth: int) -> set[tuple[str, ...]]:
    return {tuple(parts[:depth]) for name in tree.names if len(parts := name.split("/")) > depth}


def _by_depth(base: str) -> tuple[int, str]:
    return base.count("/"), base
