"""Annotations in one JSON file: images with captions and ids, in splits or as a list (format A)."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.data.readers._columns import written_path
from clipreid_kit.data.records import ImageRecord


def read_annotations(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> list[ImageRecord]:
    """Read ``{"splits": {"train": [...], ...}}``, or a bare list, of ``{"image_path", "caption", "id", ...}``.

    Use it for text-to-image retrieval data in this format. Further keys such as ``category`` go to ``extra``.

    Args:
        path: The JSON file, or a folder that holds ``annotations.json``.
        split: The one split to read; ``None`` reads all. In a bare list, which has no splits, the name that
            every record gets.
        root: Folder that image paths begin at; ``None`` means the folder of the JSON file.

    Returns:
        One record for each entry, in the file's order of splits and entries. ``identity`` is the ``id``.

    Raises:
        ValueError: If the file is missing or not of this form, an entry lacks ``image_path``, ``caption`` or
            ``id``, or there is no such split; the text lists the splits there are.

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
    file = Path(path, "annotations.json") if Path(path).is_dir() else Path(path)
    content = _content(file)
    if isinstance(content, list):
        parts: dict[str | None, object] = {split: content}
    elif isinstance(content, dict) and isinstance(content.get("splits"), dict):
        parts = dict(content["splits"])
        if split is not None and split not in parts:
            found = ", ".join(map(repr, parts)) or "none"
            raise fail(
                "read_annotations",
                f"a split {split!r} in {file}",
                f"splits {found}",
                "Name one that is there.",
            )
        parts = {name: part for name, part in parts.items() if split in (None, name)}
    else:
        got = (
            f"an object with {', '.join(map(repr, list(content)[:5]))}"
            if isinstance(content, dict)
            else repr(content)
        )
        raise fail("read_annotations", f'{{"splits": {{...}}}} or a list in {file}', got[:200])
    base = file.parent if root is None else Path(root)
    return [
        _record(entry, number, name, file, base)
        for name, part in parts.items()
        for number, entry in enumerate(_entries(part, name, file), start=1)
    ]


def write_annotations(
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    *,
    relative_to: str | os.PathLike[str] | None = None,
) -> None:
    """Write what :func:`read_annotations` reads: ``{"splits": {...}}``, or a bare list where no record has a split.

    Use it to hand captioned images to a program that takes this format. Cameras and views, which the format has
    no key for, become further keys, that :func:`read_annotations` puts into ``extra``. The file appears whole or
    not at all.

    Args:
        records: What to write, each with a caption; all with a split, or none. Splits are in the order of their
            first record.
        path: Where to, or a folder for ``annotations.json``; an existing file is replaced.
        relative_to: Folder that holds all images, to write paths relative to it; pass it as ``root`` when
            reading. ``None`` writes absolute paths.

    Raises:
        ValueError: If a record has no caption, some have a split and others none, an image lies outside
            ``relative_to``, ``extra`` has a key of the format, or the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> records = [ImageRecord("images/a.jpg", 4, caption="a red door", split="train")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_annotations(records, folder, relative_to="images")
        ...     read_annotations(folder, root="images") == records
        True
    """
    owner = "write_annotations"
    parts: dict[str | None, list[dict[str, object]]] = {}
    for record in records:
        if record.caption is None:
            remedy = "Give every record one, for example with PromptTable.caption."
            raise fail(owner, "a caption for every record", f"none for {record.path}", remedy)
        ours = {"camera": record.camera, "view": record.view}
        others = {key: value for key, value in ours.items() if value is not None}
        clash = [key for key in record.extra if key in _NEEDED or key in others]
        if clash:
            got = f"{', '.join(map(repr, clash))} for {record.path}"
            raise fail(owner, "keys of extra that the format has not", got, "Rename those keys.")
        values = (written_path(owner, record.path, relative_to), record.caption, record.identity)
        row: dict[str, object] = {
            **dict(zip(_NEEDED, values, strict=True)),
            **others,
            **record.extra,
        }
        parts.setdefault(record.split, []).append(row)
    if None in parts and len(parts) > 1:
        raise fail(
            owner,
            "a split for every record or for none",
            f"none for {len(parts[None])} of {len(records)}",
        )
    target = Path(path, "annotations.json") if Path(path).is_dir() else Path(path)
    content: object = {"splits": parts} if parts and None not in parts else parts.get(None, [])
    try:
        write_whole(target, f"{json.dumps(content, ensure_ascii=False, indent=2)}\n".encode())
    except (OSError, UnicodeEncodeError) as error:
        raise fail(
            owner, f"to write {target}", str(error), "Check the folder and the records' texts."
        ) from error


_NEEDED = ("image_path", "caption", "id")


def _content(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        remedy = "Give a .json file, or a folder that holds annotations.json."
        raise fail(
            "read_annotations", "an annotation file", f"no file at {file}", remedy
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise fail(
            "read_annotations", f"{file} as JSON", f"{type(error).__name__}: {error}"
        ) from error


def _entries(part: object, name: str | None, file: Path) -> list[object]:
    if not isinstance(part, list):
        raise fail(
            "read_annotations",
            f"a list of entries in split {name!r} of {file}",
            type(part).__name__,
        )
    return part


def _record(entry: object, number: int, split: str | None, file: Path, base: Path) -> ImageRecord:
    where = f"entry {number} of split {split!r}" if split is not None else f"entry {number}"
    lacking = (
        [key for key in _NEEDED if key not in entry] if isinstance(entry, dict) else list(_NEEDED)
    )
    if lacking or not isinstance(entry, dict):
        got = f"{where} without {', '.join(lacking)} in {file}"
        raise fail("read_annotations", f"{', '.join(_NEEDED)} in each entry", got)
    path, caption = entry["image_path"], entry["caption"]
    if not isinstance(path, str) or not path or not isinstance(caption, str):
        got = f"{path!r} and {caption!r} in {where} of {file}"
        raise fail("read_annotations", "image_path and caption as texts", got)
    extra = {
        key: value for key, value in entry.items() if key not in _NEEDED and value not in (None, "")
    }
    return ImageRecord(
        str(base / path),
        entry["id"],
        caption=caption.strip() or None,
        split=split,
        extra={
            k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
            for k, v in extra.items()
        },
    )
