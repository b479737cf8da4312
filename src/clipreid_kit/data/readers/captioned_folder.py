"""A folder of images with captions in files beside them."""

import os
from collections.abc import Sequence
from typing import Literal

from clipreid_kit._checks import check_choice, fail, shown
from clipreid_kit._read_files import InvalidJsonError, parse_json
from clipreid_kit.data.files.file_tree import FileTree, is_image, open_tree
from clipreid_kit.data.files.image_suffixes import IMAGE_SUFFIXES
from clipreid_kit.data.readers._extra_values import (
    captions_of,
    further_captions,
    texts_of_others,
)
from clipreid_kit.data.readers._split_names import warn_of_near_folders
from clipreid_kit.data.records import ImageRecord

_CAPTION_KEYS = ("caption", "description")

# A file name with fewer characters is not a caption.
_SHORTEST_CAPTION_IN_NAME = 11


def read_captioned_folder(
    path: str | os.PathLike[str],
    *,
    splits: Sequence[str] | None = None,
    uncaptioned: Literal["raise", "skip"] = "raise",
) -> list[ImageRecord]:
    """Read every image below a folder with the caption in the file beside it.

    Use it for text-to-image retrieval data without a table. The caption of ``door.jpg`` is the text
    of ``door.txt``; else ``caption`` or ``description`` in ``door.json``, whose other keys go to
    ``extra``; else the name of the file, with ``_`` and ``-`` as spaces, if it is longer than ten
    characters. A zip archive is read in place.

    Args:
        path: The folder or zip archive.
        splits: Folders directly inside to read as splits, such as ``("train", "val", "test")``, in
            this order. ``None`` reads all images, without splits.
        uncaptioned: Whether images without a caption are an error (``"raise"``), or left out
            (``"skip"``).

    Returns:
        One record for each image, ordered by split and path. Every image is an identity of its own:
        a running number from 0.

    Raises:
        ValueError: If the folder or the folder of a split is missing or has no images, a ``.json``
            beside an image is not an object, no image has a caption, or an image has none and
            ``uncaptioned="raise"``.

    Example:
        >>> import pathlib, tempfile
        >>> files = {"a.jpg": "", "a.txt": "a red door", "a_long_way-home.png": ""}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, text in files.items():
        ...         _ = pathlib.Path(folder, name).write_text(text)
        ...     records = read_captioned_folder(folder)
        >>> [(record.identity, record.caption) for record in records]
        [(0, 'a red door'), (1, 'a long way home')]
    """
    check_choice("read_captioned_folder", "uncaptioned", uncaptioned, ("raise", "skip"))
    if isinstance(splits, str) or (splits is not None and not splits):
        expected = "splits as a sequence of folder names"
        remedy = "One folder: splits=('train',)."
        raise fail("read_captioned_folder", expected, shown(splits), remedy)

    tree = open_tree("read_captioned_folder", path, "images and captions")
    existing = frozenset(tree.names)

    records: list[ImageRecord] = []
    without_caption: list[str] = []
    for split, image in _images_of_splits(tree, splits):
        caption, extra = _caption_and_extra(tree, existing, image)
        if caption is None:
            without_caption.append(image)
            continue

        number = len(records)
        records.append(
            ImageRecord(tree.path(image), number, caption=caption, split=split, extra=extra)
        )

    if without_caption and (uncaptioned == "raise" or not records):
        num_images = len(records) + len(without_caption)
        more = ", ..." if len(without_caption) > 3 else ""
        raise ValueError(
            f"read_captioned_folder: {len(without_caption)} of {num_images} images have no "
            f"caption: {', '.join(without_caption[:3])}{more}. Write a .txt beside each, or pass "
            'uncaptioned="skip" to leave them out.'
        )
    return records


def _images_of_splits(tree: FileTree, splits: Sequence[str] | None) -> list[tuple[str | None, str]]:
    """Return (split, image) of every image to read."""
    if splits is None:
        images = [name for name in tree.names if is_image(name)]
        if not images:
            raise ValueError(
                f"read_captioned_folder: none of the {len(tree.names)} files in {tree.root} is an "
                f"image. Images end in {', '.join(IMAGE_SUFFIXES)}."
            )
        return [(None, image) for image in images]

    chosen: list[tuple[str | None, str]] = []
    for split in splits:
        images = tree.images(split)
        if not images:
            folders = tree.folders()
            raise ValueError(
                f"read_captioned_folder: there are no images in {split!r} of {tree.root}; its "
                f"folders are {', '.join(folders[:10]) or 'none'}."
            )
        chosen += [(split, image) for image in images]
    warn_of_near_folders("read_captioned_folder", splits, tree.folders())
    return chosen


def _caption_and_extra(
    tree: FileTree, existing: frozenset[str], image: str
) -> tuple[str | None, dict[str, str]]:
    """Return the caption of an image, ``None`` if it has none, and the further keys of its JSON."""
    stem = image.rpartition(".")[0]
    candidates: list[str] = []
    extra: dict[str, str] = {}

    if f"{stem}.txt" in existing:
        candidates.append(tree.text("read_captioned_folder", f"{stem}.txt"))

    if f"{stem}.json" in existing:
        content = _read_object(tree, f"{stem}.json")
        for key in _CAPTION_KEYS:
            where = tree.path(f"{stem}.json")
            captions = captions_of("read_captioned_folder", content.get(key), where)
            candidates += captions[:1]
            extra |= further_captions(captions)
        extra |= texts_of_others(content, _CAPTION_KEYS)

    name = stem.rpartition("/")[2].replace("_", " ").replace("-", " ")
    if len(name) >= _SHORTEST_CAPTION_IN_NAME:
        candidates.append(name)

    filled = [text.strip() for text in candidates if text.strip()]
    return (filled[0] if filled else None), extra


def _read_object(tree: FileTree, name: str) -> dict[str, object]:
    """Read the JSON object beside an image."""
    path = tree.path(name)
    try:
        content = parse_json(tree.text("read_captioned_folder", name))
    except InvalidJsonError as error:
        raise ValueError(
            f"read_captioned_folder: {path} is not valid JSON: {error}. Correct or remove the file."
        ) from error

    if not isinstance(content, dict):
        raise ValueError(
            f"read_captioned_folder: {path} holds a {type(content).__name__}, not an object. Write "
            'the caption as {"caption": "..."}.'
        )
    return content
