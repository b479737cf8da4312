"""Records from a folder of identity folders."""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.files.file_tree import IMAGE_SUFFIXES, is_image, locate, open_tree
from clipreid_kit.data.readers._literals import integers_if_all
from clipreid_kit.data.readers._pattern import compile_pattern
from clipreid_kit.data.records import ImageRecord


def read_folder(
    root: str | os.PathLike[str],
    *,
    split: str | None = None,
    splits: Sequence[str] | None = None,
    camera_pattern: str | None = None,
    pattern: str | re.Pattern[str] | None = None,
    unmatched: Literal["raise", "skip"] = "raise",
) -> list[ImageRecord]:
    r"""Read ``root/<identity>/**/<image>``, or ``root/<split>/<identity>/**/<image>``, or any names by a pattern.

    Use it for your own images: put each identity's images in a folder of its name, or say by ``pattern`` where
    the identity stands in the names that they have, and write no class. Images are files that end in jpg,
    jpeg, png, bmp, webp, tif or tiff, in any case. Other files inside identity folders, files beside the
    identity folders that are no images, and names that begin with a dot are ignored. A warning names images that
    are left out because they end otherwise (heic, avif, gif and the like).

    A template is matched with a file's whole path below ``root``. ``{identity}``, ``{camera}``, ``{view}``,
    ``{split}`` and ``{caption}`` fill the record, any other name goes to ``extra``; ``*`` is any text without
    ``/``, ``**`` any text, ``?`` one character. A field takes as few characters as it can, and directly before
    a wildcard a whole run of digits or of letters: ``c{camera}*`` finds 12 in ``c12s1``. A regular expression
    is searched for in that path (with ``/`` on every system) and its named groups are the fields.

    Args:
        root: The folder of identity folders, or of split folders if ``splits`` is given; or a zip archive of
            it, which is read in place. Folders that hold all else in an archive do not count.
        split: Name to write into every record's ``split``; ``None`` leaves it ``None``. Not together with
            ``splits``.
        splits: Names of the split folders to read, such as ``("train", "query", "gallery")``, in this order.
            ``None`` means that ``root`` holds the identities themselves.
        camera_pattern: Regular expression with a group named ``camera``, searched for in every file's name,
            such as ``r"_c(?P<camera>\d+)"``. Cameras become integers if every one is an integer literal
            (``01`` is not), else they stay strings. ``None`` leaves cameras unknown.
        pattern: A template such as ``"{identity}_c{camera}*.jpg"``, or a compiled regular expression with a
            group named ``identity``. ``None`` means that folders are identities. Not together with ``splits``
            and ``camera_pattern``.
        unmatched: What to do with images that ``pattern`` does not fit: an error that names them, or leave
            them out.

    Returns:
        One record for each image, ordered by split, identity and path (with ``pattern`` by path); the same
        list on every machine. ``identity`` is always a string; paths begin with ``root`` as it was given.

    Raises:
        ValueError: If a folder is missing or has no identity folders, an identity folder holds no image, an
            image lies outside an identity folder, a pattern lacks its field or is no regular expression, or a
            file's name does not match it.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("rex/1_c1.jpg", "rex/2_c2.jpg", "tom/1_c1.jpg"):
        ...         file = pathlib.Path(root, name)
        ...         file.parent.mkdir(exist_ok=True)
        ...         file.touch()
        ...     records = read_folder(root, split="train", camera_pattern=r"_c(?P<camera>\d+)")
        >>> [(record.identity, record.camera) for record in records]
        [('rex', 1), ('rex', 2), ('tom', 1)]

        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("0002_c1s1_01.jpg", "0007_c12s1_07.jpg"):
        ...         pathlib.Path(root, name).touch()
        ...     records = read_folder(root, pattern="{identity}_c{camera}*.jpg")
        >>> [(record.identity, record.camera) for record in records]
        [('0002', 1), ('0007', 12)]
    """
    if pattern is not None:
        if splits is not None or camera_pattern is not None:
            remedy = "Write {split} and {camera} into the pattern."
            raise fail("read_folder", "pattern, or splits and camera_pattern", "both", remedy)
        check_choice("read_folder", "unmatched", unmatched, ("raise", "skip"))
        return _by_pattern(root, pattern, split, unmatched)
    if split is not None and splits is not None:
        raise fail(
            "read_folder",
            "split or splits",
            "both",
            "With splits, every record carries its folder's name.",
        )
    if isinstance(splits, str) or (splits is not None and not splits):
        raise fail(
            "read_folder",
            "splits as a sequence of folder names",
            repr(splits),
            "One folder: splits=('train',).",
        )
    cameras_by = None if camera_pattern is None else _compile(camera_pattern)
    if Path(root).is_file() and Path(root).suffix.lower() == ".zip":
        found = _in_archive(root, split, splits)
    else:
        unread: list[str] = []
        folders = (
            [(split, Path(root))]
            if splits is None
            else [(name, Path(root, name)) for name in splits]
        )
        _require_folder(Path(root), "root")
        found = [
            (name, identity.name, str(file))
            for name, folder in folders
            for identity in _identity_folders(folder)
            for file in _images(identity, unread)
        ]
        _warn_of_unread(unread, stacklevel=3)
    cameras: Sequence[int | str | None] = [None] * len(found)
    if cameras_by is not None:
        cameras = integers_if_all([_camera(cameras_by, file) for _, _, file in found])
    return [
        ImageRecord(file, identity, camera=camera, split=name)
        for (name, identity, file), camera in zip(found, cameras, strict=True)
    ]


_LAYOUT = "Expected layout: <root>/<identity>/<image>, or <root>/<split>/<identity>/<image> with splits=(...)."


_TABLES = (".csv", ".json", ".jsonl", ".parquet")
_UNREAD = (
    ".heic",
    ".heif",
    ".avif",
    ".gif",
    ".jp2",
    ".jfif",
    ".jxl",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
)
_FIELDS = ("identity", "camera", "view", "split", "caption")


def _by_pattern(
    root: str | os.PathLike[str], pattern: str | re.Pattern[str], split: str | None, unmatched: str
) -> list[ImageRecord]:
    expression = compile_pattern("read_folder", pattern)
    shown = pattern if isinstance(pattern, str) else pattern.pattern
    if split is not None and "split" in expression.groupindex:
        raise fail("read_folder", "split, or {split} in the pattern", "both")
    tree = open_tree("read_folder", root, "images")
    images = [name for name in tree.names if is_image(name)]
    if not images:
        got = f"none among {len(tree.names)} files" if tree.names else "an empty folder"
        remedy = f"Images end in {', '.join(IMAGE_SUFFIXES)}."
        raise fail("read_folder", f"images in {tree.place}", got, remedy)
    _warn_of_unread(tree.names, stacklevel=4)
    found = [(name, expression.search(name)) for name in images]
    if tree.archive is not None and not any(match for _, match in found):
        found = [(name, expression.search(name.removeprefix(_wrapping(images)))) for name in images]
    rows = [
        (name, match.groupdict())
        for name, match in found
        if match is not None and match["identity"]
    ]
    left = sorted(set(images) - {name for name, _ in rows})
    if (left and unmatched == "raise") or not rows:
        remedy = (
            'Change the pattern, or pass unmatched="skip" to leave them out.'
            if rows
            else "Change the pattern."
        )
        got = f"{len(left)} of {len(images)} that do not: {', '.join(left[:3])}{', ...' if len(left) > 3 else ''}"
        raise fail("read_folder", f"every image's path to match {shown!r}", got, remedy)
    filled = iter(integers_if_all([row["camera"] for _, row in rows if row.get("camera")]))
    return [
        ImageRecord(
            tree.path(name),
            row["identity"],
            camera=next(filled) if row.get("camera") else None,
            view=row.get("view") or None,
            caption=row.get("caption") or None,
            split=row.get("split") or split,
            extra={key: value for key, value in row.items() if key not in _FIELDS and value},
        )
        for name, row in rows
    ]


def _warn_of_unread(names: Sequence[str], stacklevel: int) -> None:
    """Name images of a kind that is not read: otherwise half the pictures of a telephone would be missed silently."""
    unread = [name for name in names if name.lower().endswith(_UNREAD)]
    if unread:
        shown = ", ".join(unread[:3]) + (", ..." if len(unread) > 3 else "")
        text = f"read_folder: left out {len(unread)} images that do not end in {', '.join(IMAGE_SUFFIXES)}: {shown}."
        warnings.warn(
            f"{text} Convert them, or list those that Pillow can read in a table.",
            stacklevel=stacklevel,
        )


def _in_archive(
    root: str | os.PathLike[str], split: str | None, splits: Sequence[str] | None
) -> list[tuple[str | None, str, str]]:
    """Find (split, identity, image) in a zip archive, below the folders that hold everything."""
    layout = f"the folders {', '.join(splits)}" if splits is not None else "identity folders"
    if splits is None:
        tree = open_tree("read_folder", root, layout)
        parts: list[tuple[str | None, str]] = [
            (split, _wrapping([n for n in tree.names if _is_shown(n)], least=2))
        ]
    else:
        tree, _ = locate("read_folder", root, [(name,) for name in splits], layout)
        parts = [(name, f"{name}/") for name in splits]
    found = []
    for name, folder in parts:
        images = [image for image in tree.names if image.startswith(folder) and _is_shown(image)]
        inner = [image.removeprefix(folder).split("/") for image in images]
        loose = [image for image, steps in zip(images, inner, strict=True) if len(steps) == 1]
        if loose or not images:
            got = f"{len(loose)} beside them: {', '.join(loose[:3])}" if loose else "none"
            remedy = f"{_LAYOUT} Or say by pattern= where the identity stands in the names."
            raise fail(
                "read_folder", f"images inside identity folders of {tree.path(folder)}", got, remedy
            )
        rows = sorted(zip(inner, images, strict=True))
        found += [(name, steps[0], tree.path(image)) for steps, image in rows]
        _warn_of_unread([name for name in tree.names if name.startswith(folder)], stacklevel=4)
    return found


def _is_shown(name: str) -> bool:
    return is_image(name) and not any(step.startswith(".") for step in name.split("/"))


def _wrapping(names: Sequence[str], least: int = 1) -> str:
    """Name the folder that all names lie in, with ``/``; at least so many steps of each name stay."""
    steps = [name.split("/") for name in names]
    depth = 0
    while steps and all(
        len(one) > depth + least and one[depth] == steps[0][depth] for one in steps
    ):
        depth += 1
    return "".join(f"{step}/" for step in steps[0][:depth]) if steps else ""


def _compile(camera_pattern: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(camera_pattern)
    except re.error as error:
        expected = "camera_pattern as a regular expression"
        raise fail("read_folder", expected, f"{camera_pattern!r} ({error})") from error
    if "camera" not in pattern.groupindex:
        remedy = r"Write the camera's part as (?P<camera>\d+)."
        raise fail(
            "read_folder", "camera_pattern with a group named camera", repr(camera_pattern), remedy
        )
    return pattern


def _camera(pattern: re.Pattern[str], file: str) -> str:
    match = pattern.search(Path(file).name)
    if match is None or not match["camera"]:
        remedy = "Widen the pattern, or leave camera_pattern out if cameras are unknown."
        raise fail(
            "read_folder",
            f"every file's name to match camera_pattern {pattern.pattern!r}",
            file,
            remedy,
        )
    return match["camera"]


def _require_folder(folder: Path, what: str) -> None:
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        if what != "root":
            names = sorted(entry.name for entry in folder.parent.iterdir() if entry.is_dir())
            got += f"; folders beside it: {', '.join(names[:10]) or 'none'}"
        remedy = "A table is read with read_table." if folder.suffix.lower() in _TABLES else _LAYOUT
        raise fail("read_folder", f"a folder for {what}: {folder}", got, remedy)


def _identity_folders(folder: Path) -> list[Path]:
    _require_folder(folder, "root or split")
    entries = sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(".")),
        key=lambda e: e.name,
    )
    identities = [entry for entry in entries if entry.is_dir()]
    loose = [
        entry.name
        for entry in entries
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.is_dir()
    ]
    if loose:
        remedy = (
            "Move each into the folder of its identity, say by pattern= where the identity stands in the names, "
            "or describe them in a table and use read_csv."
        )
        got = f"{len(loose)} beside them: {', '.join(loose[:3])}"
        raise fail("read_folder", f"images inside identity folders of {folder}", got, remedy)
    if not identities:
        raise fail("read_folder", f"identity folders in {folder}", "none", _LAYOUT)
    return identities


def _images(identity: Path, unread: list[str]) -> Iterator[Path]:
    images, others = [], set()
    for parent, folders, names in os.walk(identity):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent, name)
            if name.startswith("."):
                continue
            if file.suffix.lower() in IMAGE_SUFFIXES:
                images.append(file)
            else:
                others.add(file.suffix or name)
                if file.suffix.lower() in _UNREAD:
                    unread.append(str(file))
    if not images:
        got = (
            f"none (files there end in: {', '.join(sorted(others)[:5])})"
            if others
            else "none (it is empty)"
        )
        remedy = f"Images end in {', '.join(IMAGE_SUFFIXES)}. Remove or fill the folder."
        raise fail("read_folder", f"images in {identity}", got, remedy)
    yield from sorted(images, key=lambda file: file.parts)
