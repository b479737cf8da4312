"""Annotations in one JSON file: images with captions and ids, in splits or as a list."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipreid_kit import _read_files
from clipreid_kit._checks import fail, shown
from clipreid_kit._read_files import describe_error, is_folder
from clipreid_kit.data.readers._extra_values import (
    captions_of,
    further_captions,
    integer_or_name,
    texts_of_others,
)
from clipreid_kit.data.readers._near_names import warn_of_near_names
from clipreid_kit.data.readers._table_columns import check_names
from clipreid_kit.data.readers._write_file import write_text_file, written_path
from clipreid_kit.data.records import ImageRecord

_FILE_NAME = "annotations.json"
_REQUIRED = ("image_path", "caption", "id")


def read_annotations(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> list[ImageRecord]:
    """Read images with captions and ids from one JSON file, in splits or as a list.

    Use it for text-to-image retrieval data in the format ``{"splits": {"train": [...], ...}}``, or
    a list, of ``{"image_path": ..., "caption": ..., "id": ...}``. Further keys such as ``category``
    go to ``extra``.

    Args:
        path: The JSON file, or a folder that holds ``annotations.json``.
        split: Name of the one split to read; ``None`` reads all splits. A list has no splits: its
            records get this name.
        root: Folder that image paths start from. Defaults to the folder of the JSON file.

    Returns:
        One record for each entry, in the order of the file. ``identity`` is the ``id``; where no
        entry has one, the ``image_path``, so that every image is an identity of its own.

    Raises:
        ValueError: If the file is missing or has another form, an entry lacks ``image_path``,
            ``caption``, or an ``id`` that others have, or there is no such split (the message lists
            the splits).

    Example:
        >>> import json, pathlib, tempfile
        >>> entry = {"image_path": "a.jpg", "caption": "a red door", "id": 4, "category": "door"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "annotations.json")
        ...     _ = file.write_text(json.dumps({"splits": {"train": [entry]}}))
        ...     (record,) = read_annotations(folder, split="train", root="images")
        >>> record.path, record.identity, record.caption, record.split, record.extra
        ('images/a.jpg', 4, 'a red door', 'train', {'category': 'door'})
    """
    file = _file_of(path)
    entries_of = _entries_of_splits(_read_json(file), file, split)
    base = file.parent if root is None else Path(root)
    numbered = _have_ids(entries_of)

    records = []
    for name, entries in entries_of.items():
        if not isinstance(entries, list):
            raise ValueError(
                f"read_annotations: split {name!r} of {file} has to be a list of entries, not "
                f"{type(entries).__name__}."
            )

        of_split = "" if name is None else f" of split {name!r}"
        for number, entry in enumerate(entries, start=1):
            where = f"entry {number}{of_split} in {file}"
            records.append(_record(entry, name, base, where, numbered=numbered))

    warn_of_near_names("read_annotations", records)
    return records


def write_annotations(
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    *,
    relative_to: str | os.PathLike[str] | None = None,
) -> None:
    """Write captioned images in the format that :func:`read_annotations` reads.

    Use it to pass them to a program that takes this format: ``{"splits": {...}}``, or a list if no
    record has a split. Cameras, views and modalities, for which the format has no key, become
    further keys, which :func:`read_annotations` puts into ``extra``. The file is written whole or
    not at all.

    Args:
        records: The records, each with a caption; all with a split, or none. Splits are written in
            the order of their first record.
        path: The file to write, or a folder for ``annotations.json``; an existing file is replaced.
        relative_to: Folder that holds all images, to write paths relative to it; pass it as
            ``root`` when reading. ``None`` writes absolute paths.

    Raises:
        ValueError: If a record has no caption, some have a split and others none, an image is not
            below ``relative_to``, ``extra`` has a key of the format, or the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> records = [ImageRecord("images/a.jpg", 4, caption="a red door", split="train")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_annotations(records, folder, relative_to="images")
        ...     read_annotations(folder, root="images") == records
        True
    """
    check_names("write_annotations", records)
    rows_of: dict[str | None, list[dict[str, object]]] = {}
    for record in records:
        rows_of.setdefault(record.split, []).append(_row(record, relative_to))

    without_split = rows_of.get(None, [])
    if without_split and len(rows_of) > 1:
        raise ValueError(
            f"write_annotations: {len(without_split)} of {len(records)} records have no split. "
            "Give every record a split, or none."
        )

    # A list if no record has a split, also if there is no record.
    content: object = rows_of.get(None, [])
    if rows_of and not without_split:
        content = {"splits": rows_of}

    text = json.dumps(content, ensure_ascii=False, indent=2)
    write_text_file("write_annotations", _file_of(path), f"{text}\n", records)


def _file_of(path: str | os.PathLike[str]) -> Path:
    """Return the annotation file, given itself or its folder."""
    return Path(path, _FILE_NAME) if is_folder(path) else Path(path)


def _read_json(file: Path) -> object:
    """Read a JSON file."""
    try:
        return _read_files.read_json(file)
    except FileNotFoundError as error:
        raise ValueError(
            f"read_annotations: there is no file at {file}. Pass a .json file, or a folder that "
            f"holds {_FILE_NAME}."
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"read_annotations: cannot read {file} as JSON: {describe_error(error)}."
        ) from error


def _entries_of_splits(content: object, file: Path, split: str | None) -> dict[str | None, Any]:
    """Return the entries of each split to read; ``None`` is the name of no split."""
    if isinstance(content, list):
        return {split: content}

    if not isinstance(content, dict) or not isinstance(content.get("splits"), dict):
        found = shown(content)
        if isinstance(content, dict):
            found = f"an object with {', '.join(map(repr, list(content)[:5]))}"
        raise fail("read_annotations", f'{{"splits": {{...}}}} or a list in {file}', found)

    splits = {name.strip(): entries for name, entries in content["splits"].items()}
    if len(splits) < len(content["splits"]):
        raise ValueError(
            f"read_annotations: two splits of {file} differ only in the white space around their "
            "names. Join them."
        )

    if split is None:
        return dict(splits)

    if split not in splits:
        raise ValueError(
            f"read_annotations: {file} has no split {split!r}; its splits are "
            f"{', '.join(map(repr, splits)) or 'none'}."
        )
    return {split: splits[split]}


def _have_ids(entries_of: dict[str | None, Any]) -> bool:
    """Whether any entry has an ``id``, so that all of them need one."""
    lists = [entries for entries in entries_of.values() if isinstance(entries, list)]
    objects = [entry for entries in lists for entry in entries if isinstance(entry, dict)]
    return any("id" in entry for entry in objects)


def _record(
    entry: object, split: str | None, base: Path, where: str, *, numbered: bool
) -> ImageRecord:
    """Build a record from an entry; ``where`` names the entry in errors."""
    if not isinstance(entry, dict):
        raise ValueError(f"read_annotations: {where} is not an object with {', '.join(_REQUIRED)}.")

    required = _REQUIRED if numbered else _REQUIRED[:2]
    missing = [key for key in required if key not in entry]
    if missing:
        raise ValueError(f"read_annotations: {where} has no {', '.join(missing)}.")

    path = entry["image_path"]
    caption = entry["caption"]
    if not isinstance(path, str) or not path or not isinstance(caption, str | list):
        got = f"{shown(path)} and {shown(caption)} in {where}"
        raise fail("read_annotations", "image_path and caption as strings", got)

    captions = [text.strip() for text in captions_of("read_annotations", caption, where)]
    identity = integer_or_name("read_annotations", "id", entry["id"], where) if numbered else path

    return ImageRecord(
        str(base / path),
        identity,
        caption=(captions or [""])[0] or None,
        split=split,
        extra={**further_captions(captions), **texts_of_others(entry, _REQUIRED)},
    )


def _row(record: ImageRecord, relative_to: str | os.PathLike[str] | None) -> dict[str, object]:
    """Build the entry of a record."""
    if record.caption is None:
        raise ValueError(
            f"write_annotations: {record.path} has no caption. Give every record one, for example "
            "with PromptTable.caption."
        )

    row: dict[str, object] = {
        "image_path": written_path("write_annotations", record.path, relative_to),
        "caption": record.caption,
        "id": record.identity,
    }
    if record.camera is not None:
        row["camera"] = record.camera
    for name in ("view", "modality", "tracklet", "frame"):
        if getattr(record, name) is not None:
            row[name] = getattr(record, name)

    clashes = [key for key in record.extra if key in row]
    if clashes:
        raise ValueError(
            f"write_annotations: the keys {', '.join(map(repr, clashes))} of extra, for "
            f"{record.path}, are keys of the format already. Rename those keys."
        )
    return {**row, **record.extra}
