"""JSON files of a fashion pipeline: the item that an image shows, its prompt and its split."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from clipreid_kit import _read_files
from clipreid_kit._checks import fail
from clipreid_kit._files import reason_of, write_whole
from clipreid_kit._read_files import describe_error, is_folder
from clipreid_kit.data.files.write_target import check_target
from clipreid_kit.data.readers._near_names import warn_of_near_names
from clipreid_kit.data.records import ImageRecord

PathLike = str | os.PathLike[str]


def read_image_paths(path: PathLike, *, root: PathLike | None = None) -> list[ImageRecord]:
    """Read ``image_paths.json``: an object from image path to ``{"item_id": ..., "split": ...}``.

    Args:
        path: The JSON file, UTF-8.
        root: Folder that the image paths are relative to, itself or, where it has a folder of the
            split's name, that folder: ``root/train/img/...``. ``None`` leaves the paths unchanged.

    Returns:
        One record for each image, in the order of the file.

    Raises:
        ValueError: If the file is missing, is not JSON, has another structure, or holds a path
            twice.

    Example:
        >>> import pathlib, tempfile
        >>> record = ImageRecord("img/MEN/Tees/id_1/01_1_front.jpg", "id_1", split="train")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image_paths([record], pathlib.Path(folder, "image_paths.json"))
        ...     read_image_paths(pathlib.Path(folder, "image_paths.json")) == [record]
        True
    """
    records = []
    folders: dict[str, Path] = {}  # of each split
    for key, value in _read_object("read_image_paths", path).items():
        match value:
            case {"item_id": str(identity), "split": str(split)}:
                if root is not None and split not in folders:
                    below = Path(root) / split
                    folders[split] = below if is_folder(below) else Path(root)
                image_path = key if root is None else str(folders[split] / key)
                records.append(ImageRecord(image_path, identity, split=split))
            case _:
                expected = f'{{"item_id": text, "split": text}} for every image in {path}'
                raise fail("read_image_paths", expected, f"{_shortened(value)} for {key}")

    warn_of_near_names("read_image_paths", records)
    return records


def write_image_paths(
    records: Sequence[ImageRecord], path: PathLike, *, relative_to: PathLike | None = None
) -> None:
    """Write a file for :func:`read_image_paths`; identities become strings.

    Args:
        records: Records with a split.
        path: Target file; an existing file is replaced.
        relative_to: Folder that holds all images, removed from the paths; ``None`` leaves the paths
            unchanged.

    Raises:
        ValueError: If a record has no split or lies outside ``relative_to``, or two records have
            the same path.
    """
    owner = "write_image_paths"
    rows = {
        key: {"item_id": str(record.identity), "split": record.split}
        for key, record in _split_records(owner, records, relative_to).items()
    }
    _write(owner, path, rows)


def read_image_splits(path: PathLike) -> dict[str, list[str]]:
    """Read ``image_splits.json``: an object from split to a list of image paths.

    Args:
        path: The JSON file, UTF-8.

    Returns:
        The paths of each split, unchanged.

    Raises:
        ValueError: If the file is missing, is not JSON, has another structure, or holds a path
            twice.

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
            expected = f"a list of image paths for every split in {path}"
            raise fail(owner, expected, f"{_shortened(paths)} for {split}")

        for name in paths:
            if name in seen:
                raise ValueError(f"{owner}: {path} lists {name} twice; remove one of the two.")
            seen.add(name)
        splits[split] = paths

    return splits


def write_image_splits(
    records: Sequence[ImageRecord], path: PathLike, *, relative_to: PathLike | None = None
) -> None:
    """Write a file for :func:`read_image_splits`.

    Args:
        records: Records with a split.
        path: Target file; an existing file is replaced.
        relative_to: Folder that holds all images, removed from the paths; ``None`` leaves the paths
            unchanged.

    Raises:
        ValueError: If a record has no split or lies outside ``relative_to``, or two records have
            the same path.
    """
    owner = "write_image_splits"
    splits: dict[str, list[str]] = {}
    for key, record in _split_records(owner, records, relative_to).items():
        splits.setdefault(str(record.split), []).append(key)

    _write(owner, path, splits)


def read_texts(path: PathLike) -> dict[str, str]:
    """Read a JSON object of texts: prompts by item, or captions by image path.

    Args:
        path: The JSON file, UTF-8, such as ``image_prompts_per_identity.json`` or
            ``image_texts.json``.

    Returns:
        The texts by key, in the order of the file.

    Raises:
        ValueError: If the file is missing, is not JSON, has another structure, or holds a key
            twice.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "prompts.json")
        ...     write_texts({"id_2": "a coat", "id_1": "a hat"}, file)
        ...     read_texts(file)
        {'id_1': 'a hat', 'id_2': 'a coat'}
    """
    texts = {}
    for key, value in _read_object("read_texts", path).items():
        if not isinstance(value, str):
            got = f"{_shortened(value)} for {key}"
            raise fail("read_texts", f"a text for every key in {path}", got)
        texts[key] = value

    return texts


def write_texts(texts: Mapping[str, str], path: PathLike) -> None:
    """Write a file for :func:`read_texts`, with sorted keys.

    Args:
        texts: Texts by key, such as prompts by item.
        path: Target file; an existing file is replaced.

    Raises:
        ValueError: If the file cannot be written.
    """
    _write("write_texts", path, dict(sorted(texts.items())))


def read_json(owner: str, path: PathLike) -> object:
    """Read a JSON file in which no object holds a key twice."""
    file = Path(path)
    try:
        return _read_files.read_json(file)
    except FileNotFoundError as error:
        raise ValueError(f"{owner}: there is no file {file}. Correct the path.") from error
    except (OSError, ValueError) as error:
        cause = describe_error(error)
        raise ValueError(f"{owner}: {file} is not readable as JSON in UTF-8 ({cause}).") from error


def relative_key(owner: str, path: str, relative_to: PathLike | None) -> str:
    """Write a path with ``/``, relative to a folder, an archive, or a folder in an archive."""
    if relative_to is None:
        return Path(path).as_posix()

    file = PurePosixPath(Path(path.replace(".zip::", ".zip/")).as_posix())
    folder = Path(os.fspath(relative_to).replace(".zip::", ".zip/")).as_posix()
    try:
        return str(file.relative_to(folder))
    except ValueError as error:
        raise fail(owner, f"every image below {relative_to}", path) from error


def _read_object(owner: str, path: PathLike) -> dict[str, object]:
    content = read_json(owner, path)
    if not isinstance(content, dict):
        raise fail(owner, f"a JSON object in {path}", _shortened(content))

    return content


def _split_records(
    owner: str, records: Sequence[ImageRecord], relative_to: PathLike | None
) -> dict[str, ImageRecord]:
    """Key each record by its path; every record needs a split and its own path."""
    by_key: dict[str, ImageRecord] = {}
    for record in records:
        if record.split is None:
            raise ValueError(f"{owner}: {record.path} has no split; every record needs one.")

        key = relative_key(owner, record.path, relative_to)
        if key in by_key:
            raise ValueError(f"{owner}: two records have the path {key}; remove one of them.")
        by_key[key] = record

    return by_key


def _write(owner: str, path: PathLike, content: object) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    check_target(owner, path)
    try:
        write_whole(Path(path), text.encode())
    except OSError as error:
        raise ValueError(f"{owner}: cannot write {path}: {reason_of(error)}.") from error
    except ValueError as error:  # of the encoding
        raise ValueError(f"{owner}: cannot write {path} ({error}). Check the texts.") from error


def _shortened(value: object) -> str:
    # JSON leaves separators of lines as they are.
    text = " ".join(json.dumps(value, ensure_ascii=False).splitlines())
    if len(text) <= 60:
        return text

    return text[:60] + "..."
