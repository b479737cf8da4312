"""A folder of images with their captions in files beside them (format B)."""

import json
import os
from collections.abc import Sequence
from typing import Literal

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.files.file_tree import IMAGE_SUFFIXES, FileTree, is_image, open_tree
from clipreid_kit.data.records import ImageRecord


def read_captioned_folder(
    path: str | os.PathLike[str],
    *,
    splits: Sequence[str] | None = None,
    uncaptioned: Literal["raise", "skip"] = "raise",
) -> list[ImageRecord]:
    """Read every image below a folder with the caption that stands beside it.

    Use it for text-to-image retrieval data without a table. The caption of ``door.jpg`` is the text of
    ``door.txt``; else ``caption`` or ``description`` in ``door.json``, whose other keys go to ``extra``; else
    the file's name with ``_`` and ``-`` as blanks, if that is longer than ten characters. A zip archive is
    read in place.

    Args:
        path: The folder or zip archive.
        splits: Folders directly inside to read as splits, such as ``("train", "val", "test")``, in this
            order. ``None`` reads everything, without splits.
        uncaptioned: What to do with images without a caption: an error that names them, or leave them out.

    Returns:
        One record for each image, ordered by split and path. Every image is an identity of its own: a
        running number from 0.

    Raises:
        ValueError: If the folder or a split's folder is missing or has no images, a ``.json`` beside an image
            is no object, or images have no caption and shall not be left out.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, text in (("a.jpg", ""), ("a.txt", "a red door"), ("a_long_way-home.png", "")):
        ...         _ = pathlib.Path(folder, name).write_text(text)
        ...     records = read_captioned_folder(folder)
        >>> [(record.identity, record.caption) for record in records]
        [(0, 'a red door'), (1, 'a long way home')]
    """
    check_choice("read_captioned_folder", "uncaptioned", uncaptioned, ("raise", "skip"))
    if isinstance(splits, str) or (splits is not None and not splits):
        remedy = "One folder: splits=('train',)."
        raise fail(
            "read_captioned_folder", "splits as a sequence of folder names", repr(splits), remedy
        )
    tree = open_tree("read_captioned_folder", path, "images and captions")
    chosen: list[tuple[str | None, str]] = []
    if splits is None:
        chosen += [(None, name) for name in tree.names if is_image(name)]
    for split in splits or ():
        images = tree.images(split)
        if not images:
            folders = sorted({name.split("/")[0] for name in tree.names if "/" in name})
            got = f"none; folders there: {', '.join(folders[:10]) or 'none'}"
            raise fail("read_captioned_folder", f"images in {split!r} of {tree.place}", got)
        chosen += [(split, name) for name in images]
    if not chosen:
        got = f"none among {len(tree.names)} files"
        remedy = f"Images end in {', '.join(IMAGE_SUFFIXES)}."
        raise fail("read_captioned_folder", f"images in {tree.place}", got, remedy)
    there = frozenset(tree.names)
    rows = [(split, name, *_caption(tree, there, name)) for split, name in chosen]
    bare = [name for _, name, caption, _ in rows if caption is None]
    if bare and (uncaptioned == "raise" or len(bare) == len(rows)):
        got = f"none for {len(bare)} of {len(rows)}: {', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''}"
        remedy = 'Write a .txt beside each, or pass uncaptioned="skip" to leave them out.'
        raise fail("read_captioned_folder", "a caption for every image", got, remedy)
    captioned = [row for row in rows if row[2] is not None]
    return [
        ImageRecord(tree.path(name), number, caption=caption, split=split, extra=extra)
        for number, (split, name, caption, extra) in enumerate(captioned)
    ]


_KEYS = ("caption", "description")
_SHORTEST_NAME = 11


def _caption(tree: FileTree, there: frozenset[str], name: str) -> tuple[str | None, dict[str, str]]:
    stem = name.rpartition(".")[0]
    extra: dict[str, str] = {}
    texts = [tree.text("read_captioned_folder", f"{stem}.txt")] if f"{stem}.txt" in there else []
    if f"{stem}.json" in there:
        content = _object(tree, f"{stem}.json")
        texts += [value for key in _KEYS if isinstance(value := content.get(key), str)]
        rest = {
            key: value
            for key, value in content.items()
            if key not in _KEYS and value not in (None, "")
        }
        extra = {
            k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
            for k, v in rest.items()
        }
    title = stem.rpartition("/")[2].replace("_", " ").replace("-", " ")
    if len(title) >= _SHORTEST_NAME:
        texts.append(title)
    return next((text.strip() for text in texts if text.strip()), None), extra


def _object(tree: FileTree, name: str) -> dict[str, object]:
    try:
        content = json.loads(tree.text("read_captioned_folder", name))
    except (json.JSONDecodeError, RecursionError) as error:
        raise fail("read_captioned_folder", f"{tree.path(name)} as JSON", str(error)) from error
    if not isinstance(content, dict):
        raise fail(
            "read_captioned_folder", f"an object in {tree.path(name)}", type(content).__name__
        )
    return content
