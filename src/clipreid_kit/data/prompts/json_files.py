"""The JSON files of a fashion pipeline: the item that an image shows, its prompt, its split."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.data.records import ImageRecord

PathLike = str | os.PathLike[str]


def read_image_paths(path: PathLike, *, root: PathLike | None = None) -> list[ImageRecord]:
    """Read ``image_paths.json``: an object from image path to ``{"item_id": ..., "split": ...}``.

    Args:
        path: The JSON file, UTF-8.
        root: Folder that the image paths begin at; ``None`` leaves them as they are.

    Returns:
        One record for each image, in the order of the file.

    Raises:
        ValueError: If the file is missing, is no JSON, has another shape, or holds a path twice.

    Example:
        >>> import pathlib, tempfile
        >>> record = ImageRecord("img/MEN/Tees/id_1/01_1_front.jpg", "id_1", split="train")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image_paths([record], pathlib.Path(folder, "image_paths.json"))
        ...     read_image_paths(pathlib.Path(folder, "image_paths.json")) == [record]
        True
    """
    records = []
    for key, value in _read_object("read_image_paths", path).items():
        if not (
            isinstance(value, dict)
            and all(isinstance(value.get(name), str) for name in ("item_id", "split"))
        ):
            expected = f'{{"item_id": text, "split": text}} for every image in {path}'
            raise fail("read_image_paths", expected, f"{_shown(value)} for {key}")
        records.append(ImageRecord(_joined(root, key), value["item_id"], split=value["split"]))
    return records


def write_image_paths(
    records: Sequence[ImageRecord], path: PathLike, *, relative_to: PathLike | None = None
) -> None:
    """Write what :func:`read_image_paths` reads; identities become texts.

    Args:
        records: Each with a split.
        path: Where to; an existing file is replaced.
        relative_to: Folder that holds all images, left out of the paths; ``None`` writes them as they are.

    Raises:
        ValueError: If a record has no split, lies outside ``relative_to``, or two records have one path.
    """
    owner = "write_image_paths"
    keys = _keys(owner, records, relative_to)
    for record in records:
        if record.split is None:
            raise fail(owner, "a split for every record", f"none for {record.path}")
    rows = {
        key: {"item_id": str(r.identity), "split": r.split}
        for key, r in zip(keys, records, strict=True)
    }
    _write(owner, path, rows)


def read_image_splits(path: PathLike) -> dict[str, list[str]]:
    """Read ``image_splits.json``: an object from split to a list of image paths.

    Args:
        path: The JSON file, UTF-8.

    Returns:
        The paths of each split, as they are written.

    Raises:
        ValueError: If the file is missing, is no JSON, has another shape, or holds a path twice.

    Example:
        >>> import pathlib, tempfile
        >>> record = ImageRecord("img/a.jpg", "id_1", split="query")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image_splits([record], pathlib.Path(folder, "image_splits.json"))
        ...     read_image_splits(pathlib.Path(folder, "image_splits.json"))
        {'query': ['img/a.jpg']}
    """
    owner = "read_image_splits"
    splits: dict[str, list[str]] = {}
    seen: set[str] = set()
    for split, paths in _read_object(owner, path).items():
        if not isinstance(paths, list) or not all(isinstance(name, str) for name in paths):
            raise fail(
                owner,
                f"a list of image paths for every split in {path}",
                f"{_shown(paths)} for {split}",
            )
        for name in paths:
            if name in seen:
                raise fail(owner, f"every image once in {path}", f"{name} twice")
            seen.add(name)
        splits[split] = paths
    return splits


def write_image_splits(
    records: Sequence[ImageRecord], path: PathLike, *, relative_to: PathLike | None = None
) -> None:
    """Write what :func:`read_image_splits` reads.

    Args:
        records: Each with a split.
        path: Where to; an existing file is replaced.
        relative_to: Folder that holds all images, left out of the paths; ``None`` writes them as they are.

    Raises:
        ValueError: If a record has no split, lies outside ``relative_to``, or two records have one path.
    """
    owner = "write_image_splits"
    splits: dict[str, list[str]] = {}
    for key, record in zip(_keys(owner, records, relative_to), records, strict=True):
        if record.split is None:
            raise fail(owner, "a split for every record", f"none for {record.path}")
        splits.setdefault(record.split, []).append(key)
    _write(owner, path, splits)


def read_texts(path: PathLike) -> dict[str, str]:
    """Read a JSON object from text to text: prompts by item, or captions by image path.

    Args:
        path: The JSON file, UTF-8, such as ``image_prompts_per_identity.json`` or ``image_texts.json``.

    Returns:
        The texts, in the order of the file.

    Raises:
        ValueError: If the file is missing, is no JSON, has another shape, or holds a key twice.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_texts({"id_2": "a coat", "id_1": "a hat"}, pathlib.Path(folder, "prompts.json"))
        ...     read_texts(pathlib.Path(folder, "prompts.json"))
        {'id_1': 'a hat', 'id_2': 'a coat'}
    """
    texts = {}
    for key, value in _read_object("read_texts", path).items():
        if not isinstance(value, str):
            raise fail(
                "read_texts", f"a text for every key in {path}", f"{_shown(value)} for {key}"
            )
        texts[key] = value
    return texts


def write_texts(texts: Mapping[str, str], path: PathLike) -> None:
    """Write what :func:`read_texts` reads, by sorted keys.

    Args:
        texts: Such as prompts by item.
        path: Where to; an existing file is replaced.

    Raises:
        ValueError: If the file cannot be written.
    """
    _write("write_texts", path, dict(sorted(texts.items())))


def read_json(owner: str, path: PathLike) -> object:
    """Read a JSON file in which no object holds a key twice."""
    file = Path(path)
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except FileNotFoundError as error:
        raise fail(
            owner, "an existing JSON file", f"no file at {file}", "Correct the path."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise fail(owner, f"{file} as JSON in UTF-8", f"{type(error).__name__}: {error}") from error


def _read_object(owner: str, path: PathLike) -> dict[str, object]:
    content = read_json(owner, path)
    if not isinstance(content, dict):
        raise fail(owner, f"a JSON object in {path}", _shown(content))
    return content


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice"
        )
    return content


def _write(owner: str, path: PathLike, content: object) -> None:
    try:
        write_whole(Path(path), (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    except (OSError, UnicodeEncodeError) as error:
        raise fail(
            owner, f"to write {path}", str(error), "Check the folder and the texts."
        ) from error


def relative_key(owner: str, path: str, relative_to: PathLike | None) -> str:
    """Write a path with ``/`` and below a folder, or below an archive or a folder in one."""
    if relative_to is None:
        return Path(path).as_posix()
    folder = os.fspath(relative_to).replace(".zip::", ".zip/")
    try:
        return str(
            PurePosixPath(Path(path.replace(".zip::", ".zip/")).as_posix()).relative_to(
                Path(folder).as_posix()
            )
        )
    except ValueError as error:
        raise fail(owner, f"every image below {relative_to}", path) from error


def _joined(root: PathLike | None, key: str) -> str:
    return key if root is None else str(Path(root) / key)


def _keys(owner: str, records: Sequence[ImageRecord], relative_to: PathLike | None) -> list[str]:
    """The path of each record as a key: the folder goes as a whole, never letter by letter."""
    keys = [relative_key(owner, record.path, relative_to) for record in records]
    if len(set(keys)) < len(keys):
        raise fail(
            owner, "records with paths that differ", f"{len(keys) - len(set(keys))} repeated"
        )
    return keys


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "..."
