"""Records from Arrow files, and from folders in which Hugging Face saves a data set."""

import os
from collections.abc import Mapping
from pathlib import Path

from clipreid_kit._read_files import (
    MAX_BYTES,
    UnusableFileError,
    describe_error,
    exists,
    is_file,
    read_json,
)
from clipreid_kit.data.files.arrow_cells import open_arrow
from clipreid_kit.data.readers._image_columns import (
    Row,
    columns_of_images,
    columns_with_image,
    import_pyarrow,
    rows_with_cells,
)
from clipreid_kit.data.readers._typed_rows import typed_records
from clipreid_kit.data.records import ImageRecord

_DATASET = "state.json"
_PARTS = "dataset_dict.json"

# What the validation part of a set is called here.
_SPLITS = {"validation": "val"}


def is_saved_dataset(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder that ``save_to_disk`` of Hugging Face's datasets wrote."""
    return any(is_file(Path(path, name)) for name in (_DATASET, _PARTS))


def read_arrow_records(
    owner: str,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from an Arrow file."""
    import_pyarrow(owner)
    file = Path(path)
    if not exists(file):
        raise ValueError(f"{owner}: there is no file at {file}. Correct the path.")

    # Cells of images are found beside the table, wherever the paths of others begin.
    rows = _read_rows(owner, file, file.name if root is None else str(file.absolute()))
    renamed = columns_with_image(columns or {}, rows)
    return typed_records(owner, file, rows, renamed, file.parent if root is None else Path(root))


def read_saved_dataset(
    owner: str,
    folder: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from the folder of a saved ``Dataset`` or ``DatasetDict``.

    The parts of a ``DatasetDict`` are splits, unless the table has a column of splits.
    """
    import_pyarrow(owner)
    columns = columns or {}
    begin = Path(folder)

    rows: list[Row] = []
    for part, split in _parts_of(owner, begin).items():
        for name in _files_of(owner, begin / part):
            file = begin / part / name
            path = str(file.relative_to(begin) if root is None else file.absolute())
            rows += _with_split(_read_rows(owner, file, path), columns, split)

    renamed = columns_with_image(columns, rows)
    return typed_records(owner, begin, rows, renamed, begin if root is None else Path(root))


def _parts_of(owner: str, folder: Path) -> dict[str, str | None]:
    """Return the folders of the parts, and their splits; of a single set, itself without one."""
    if not is_file(folder / _PARTS):
        return {"": None}

    names = _names_in(owner, folder / _PARTS, "splits")
    return {name: _SPLITS.get(name, name) for name in names}


def _files_of(owner: str, folder: Path) -> list[str]:
    """Return the names of the Arrow files of a part, in the order of their rows."""
    return _names_in(owner, folder / _DATASET, "_data_files")


def _names_in(owner: str, file: Path, key: str) -> list[str]:
    """Read a list of names of files or folders, each as a string or as ``{"filename": name}``."""
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{owner}: cannot read {file}: {describe_error(error)}. Save the data set again."
        ) from error

    found = content.get(key) if isinstance(content, dict) else None
    entries = found if isinstance(found, list) else [None]
    names = [entry.get("filename") if isinstance(entry, dict) else entry for entry in entries]

    # A name with folders in it would lead elsewhere.
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if wrong:
        raise ValueError(
            f"{owner}: {file} does not list names as {key!r}. Save the data set again."
        )
    return [name for name in names if isinstance(name, str)]


def _read_rows(owner: str, file: Path, name: str) -> list[Row]:
    """Read all rows of an Arrow file, whose images stay in it."""
    try:
        table = open_arrow(str(file))
        images = columns_of_images(table.schema)
        texts = table.drop_columns(images)
        if texts.nbytes > MAX_BYTES:
            raise UnusableFileError(
                f"its columns have {texts.nbytes} bytes, more than the limit of {MAX_BYTES}"
            )
        return rows_with_cells(texts, table.schema.names, name)
    except (OSError, ValueError) as error:
        reason = " ".join(describe_error(error).split())
        raise ValueError(
            f"{owner}: cannot read {file} as Arrow: {reason}. Write the table again."
        ) from error


def _with_split(rows: list[Row], columns: Mapping[str, str], split: str | None) -> list[Row]:
    """Give rows the split of their part, if they have none."""
    if split is None or "split" in columns or (rows and "split" in rows[0]):
        return rows
    return [{**row, "split": split} for row in rows]
