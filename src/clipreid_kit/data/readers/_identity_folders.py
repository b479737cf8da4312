"""Images in identity folders, on disk and in zip archives."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipreid_kit._read_files import exists, is_folder
from clipreid_kit.data.files.file_tree import (
    FileTree,
    is_image,
    list_folder,
    locate,
    open_tree,
    walk_folder,
    warn_of_dead_links,
)
from clipreid_kit.data.files.image_suffixes import IMAGE_SUFFIXES
from clipreid_kit.data.readers._split_names import warn_of_near_folders
from clipreid_kit.data.readers._unread_images import is_archive, is_unread_image

LAYOUT = (
    "Expected layout: <root>/<identity>/<image>, or <root>/<split>/<identity>/<image> with "
    "splits=(...)."
)
_TABLE_SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image, with the split and the identity that its folders name."""

    split: str | None
    identity: str
    path: str


@dataclass(frozen=True, slots=True)
class FoundImages:
    """All images that were found, and the paths of files that are not read.

    Attributes:
        images: The images.
        unread: Images of other formats.
        packed: Archives.
        dead_links: Links to nothing.
    """

    images: list[FoundImage] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    packed: list[str] = field(default_factory=list)
    dead_links: list[Path] = field(default_factory=list)


def find_in_folder(
    owner: str, root: Path, split: str | None, splits: Sequence[str] | None
) -> FoundImages:
    """Find the images of a folder on disk, in the order of splits, identities and paths."""
    _require_folder(owner, root, is_root=True)

    found = FoundImages()
    if splits is None:
        _add_identity_folders(owner, found, split, root)
    else:
        for name in splits:
            _require_folder(owner, root / name)
            _add_identity_folders(owner, found, name, root / name)
        warn_of_near_folders(owner, splits, list_folder(owner, root)[0])

    warn_of_dead_links(owner, root, found.dead_links)
    return found


def find_in_archive(
    owner: str, root: str | os.PathLike[str], split: str | None, splits: Sequence[str] | None
) -> FoundImages:
    """Find the images of a zip archive, below the folders that hold everything."""
    found = FoundImages()
    if splits is None:
        tree = open_tree(owner, root, "identity folders")
        images = [name for name in tree.names if _is_visible_image(name)]
        _add_archive_folder(owner, found, split, tree, common_folder(images, least_depth=2))
    else:
        needed = [(name,) for name in splits]
        tree, _ = locate(owner, root, needed, f"the folders {', '.join(splits)}")
        for name in splits:
            _add_archive_folder(owner, found, name, tree, f"{name}/")
        warn_of_near_folders(owner, splits, tree.folders())
    return found


def common_folder(names: Sequence[str], least_depth: int = 1) -> str:
    """Return the folder that all names lie in, with ``/``; ``""`` if there is none.

    At least ``least_depth`` parts of each name stay below it.
    """
    if not names:
        return ""

    parts_of = [name.split("/") for name in names]
    first = parts_of[0]
    depth = 0
    while all(
        len(parts) > depth + least_depth and parts[depth] == first[depth] for parts in parts_of
    ):
        depth += 1
    return "".join(f"{part}/" for part in first[:depth])


def _add_identity_folders(owner: str, found: FoundImages, split: str | None, folder: Path) -> None:
    """Add the images of all identity folders of a folder."""
    identities, files = list_folder(owner, folder, found.dead_links)

    loose = [name for name in files if is_image(name)]
    if loose:
        raise ValueError(
            f"{owner}: {len(loose)} images in {folder} are not inside an identity folder: "
            f"{', '.join(loose[:3])}. Move each into the folder of its identity; or pass pattern= "
            "if their names contain the identity; or describe them in a table and use read_csv."
        )

    if not identities:
        raise ValueError(f"{owner}: there are no identity folders in {folder}. {LAYOUT}")

    # One that was unpacked beside itself is not missed.
    for name in files:
        if is_archive(name) and name.split(".")[0] not in identities:
            found.packed.append(str(folder / name))

    for name in identities:
        for file in _images_of_identity(owner, found, folder / name):
            found.images.append(FoundImage(split, name, str(file)))


def _images_of_identity(owner: str, found: FoundImages, identity: Path) -> list[Path]:
    """Return the images of an identity folder in the order of their paths; add unread ones."""
    if identity.parent.resolve().is_relative_to(identity.resolve()):
        raise ValueError(
            f"{owner}: {identity} is a link to {identity.resolve()}, which it lies in. Remove the "
            "link."
        )

    images: list[Path] = []
    others: list[Path] = []
    for parent, names in walk_folder(owner, identity, found.dead_links, inside=identity.parent):
        for name in names:
            if not name.startswith("."):
                (images if is_image(name) else others).append(Path(parent, name))

    found.unread.extend(str(file) for file in others if is_unread_image(file.name))
    found.packed.extend(str(file) for file in others if is_archive(file.name))

    if not images:
        suffixes = sorted({file.suffix or file.name for file in others})
        content = f"its files end in {', '.join(suffixes[:5])}" if suffixes else "it is empty"
        raise ValueError(
            f"{owner}: there are no images in {identity} ({content}). Images end in "
            f"{', '.join(IMAGE_SUFFIXES)}. Remove or fill the folder."
        )
    return sorted(images, key=lambda file: file.parts)


def _add_archive_folder(
    owner: str, found: FoundImages, split: str | None, tree: FileTree, folder: str
) -> None:
    """Add the images of all identity folders of a folder in an archive."""
    names = [name for name in tree.names if name.startswith(folder)]

    images: list[tuple[list[str], str]] = []  # parts of the name below the folder, and the name
    loose: list[str] = []
    for name in names:
        parts = name.removeprefix(folder).split("/")
        if not _is_visible_image(name):
            continue
        if len(parts) == 1:
            loose.append(name)
        else:
            images.append((parts, name))

    if loose or not images:
        problem = f"there are no images in identity folders of {tree.path(folder)}"
        if loose:
            problem = (
                f"{len(loose)} images in {tree.path(folder)} are not inside an identity folder: "
                f"{', '.join(loose[:3])}"
            )
        raise ValueError(
            f"{owner}: {problem}. {LAYOUT} Or pass pattern= if the names contain the identity."
        )

    for parts, name in sorted(images):
        found.images.append(FoundImage(split, parts[0], tree.path(name)))
    found.unread.extend(name for name in names if is_unread_image(name))


def _is_visible_image(name: str) -> bool:
    """Return whether a name is that of an image, in no hidden folder."""
    return is_image(name) and not any(part.startswith(".") for part in name.split("/"))


def _require_folder(owner: str, folder: Path, is_root: bool = False) -> None:
    """Raise ValueError if there is no such folder."""
    if is_folder(folder):
        return

    problem = f"{folder} is a file, not a folder" if exists(folder) else f"there is no {folder}"
    if not is_root:
        names, _ = list_folder(owner, folder.parent)
        problem += f"; the folders beside it are: {', '.join(names[:10]) or 'none'}"

    is_table = folder.suffix.lower() in _TABLE_SUFFIXES
    remedy = "Read a table with read_table." if is_table else LAYOUT
    raise ValueError(f"{owner}: {problem}. {remedy}")
