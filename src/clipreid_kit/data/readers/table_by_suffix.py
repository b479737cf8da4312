"""Records from a CSV, JSON, Parquet or Excel table, chosen by the file's suffix, and back."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.readers._arrow_table import (
    is_saved_dataset,
    read_arrow_records,
    read_saved_dataset,
)
from clipreid_kit.data.readers._excel_table import read_excel_records
from clipreid_kit.data.readers._json_table import read_json_records, write_json_records
from clipreid_kit.data.readers._parquet_table import read_parquet_records, write_parquet_records
from clipreid_kit.data.readers.csv_table import read_csv, write_csv
from clipreid_kit.data.records import ImageRecord

_WRITTEN = (".csv", ".json", ".jsonl", ".parquet")
_SEPARATED = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_READ = (*_SEPARATED, ".json", ".jsonl", ".parquet", ".arrow", ".xlsx")


def read_table(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> list[ImageRecord]:
    r"""Read records from a table: CSV, JSON, JSON Lines, Parquet, Arrow or Excel, by the suffix.

    Use it for your own data that is described in a file. Columns are as for :func:`read_csv`:
    ``path`` and ``identity`` are enough; ``camera``, ``view``, ``caption``, ``split``, and ``box``
    or ``corners`` are read if they exist, and every other column goes to ``extra``. Files of
    separated cells end in ``.csv``, ``.tsv``, ``.csv.gz`` or ``.tsv.gz``. A JSON file (``.json``)
    is one list of objects, a JSON Lines file (``.jsonl``) an object a line; single objects may lack
    keys, and ``caption`` may be a list. Of an Excel file (``.xlsx``), the first sheet is read.

    Parquet and Arrow files (``.arrow``) may hold the images themselves, as data sets of Hugging
    Face do: name their column, as in ``columns={"path": "image"}``, unless it is the only one and
    no column is called ``path``. So may the folder that ``save_to_disk`` of a data set wrote. The
    parts of a ``DatasetDict`` are then splits, and ``validation`` is ``val``.

    JSON, Parquet, Arrow and Excel distinguish numbers from strings, so identities and cameras keep
    their type: ``7`` and ``"7"`` are different. Values of ``extra`` are strings; any other value is
    kept as its JSON, such as ``true``.

    Args:
        path: The table; its suffix decides the format. Parquet and Arrow need pyarrow, Excel
            openpyxl. Or the folder of a data set that Hugging Face's datasets saved.
        root: Folder that relative image paths start from. Defaults to the folder of the table.
        columns: The table's names for columns that are named otherwise there, such as
            ``{"identity": "pid"}``. ``None`` renames nothing.
        delimiter: Of separated cells: the character between them; ``None`` finds it out.
        encoding: Of separated cells: the encoding of the file, as for :func:`read_csv`.

    Returns:
        One record for each row, in the order of the table; empty for a table without rows.
        ``None``, an empty string and NaN give ``None``, or leave a key of ``extra`` out.

    Raises:
        ValueError: If the suffix is unknown, the file is missing or damaged, a required column or
            value is missing, or an identity is neither a whole number nor a string.
        ImportError: If pyarrow or openpyxl is needed and not installed.

    Example:
        >>> import pathlib, tempfile
        >>> rows = [
        ...     '{"path": "a.jpg", "identity": 7}',
        ...     '{"path": "b.jpg", "identity": 7, "age": 30}',
        ... ]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "images.jsonl")
        ...     _ = table.write_text("\n".join(rows))
        ...     first, second = read_table(table, root="images")
        >>> first.path, first.identity, second.extra
        ('images/a.jpg', 7, {'age': '30'})
    """
    is_folder = is_saved_dataset(path)
    suffix = "folder" if is_folder else _suffix_of("read_table", path, _READ)
    if suffix in _SEPARATED:
        return read_csv(path, root=root, columns=columns, delimiter=delimiter, encoding=encoding)

    for name, value in (("delimiter", delimiter), ("encoding", encoding)):
        if value is not None:
            raise ValueError(
                f"read_table: {name} is of separated cells, and {path} is "
                f"{'a folder' if is_folder else f'a {suffix} file'}. Leave it out."
            )
    if is_folder:
        return read_saved_dataset("read_table", path, root, columns)
    if suffix == ".arrow":
        return read_arrow_records("read_table", path, root, columns)
    if suffix == ".parquet":
        return read_parquet_records("read_table", path, root, columns)
    if suffix == ".xlsx":
        return read_excel_records("read_table", path, root, columns)
    return read_json_records("read_table", path, root, columns)


def write_table(
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    *,
    relative_to: str | os.PathLike[str] | None = None,
) -> None:
    """Write records to a table that :func:`read_table` reads back.

    Use it to keep the records of a reader, to edit them, or to pass them to another program. The
    suffix decides the format: ``.csv``, ``.json``, ``.jsonl`` or ``.parquet``. The file is written
    whole or not at all.

    Args:
        records: The records, in this order.
        path: The file to write; its folder has to exist, an existing file is replaced.
        relative_to: Folder that holds all images, to write paths relative to it; pass it as
            ``root`` when reading. ``None`` writes absolute paths.

    Raises:
        ValueError: If the suffix is unknown, an image is not below ``relative_to``, a key of
            ``extra`` is the name of a column, or the file is an image or cannot be written.
        ImportError: If the file is Parquet and pyarrow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> record = ImageRecord("images/a.jpg", 7, camera="door")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "images.jsonl")
        ...     write_table([record], table, relative_to="images")
        ...     print(table.read_text().strip())
        {"path": "a.jpg", "identity": 7, "camera": "door"}
    """
    suffix = written_suffix("write_table", path)
    if suffix == ".csv":
        write_csv(records, path, relative_to=relative_to)
    elif suffix == ".parquet":
        write_parquet_records("write_table", records, path, relative_to)
    else:
        write_json_records("write_table", records, path, relative_to)


def written_suffix(owner: str, path: str | os.PathLike[str]) -> str:
    """Return the suffix of a table to write.

    Raises:
        ValueError: If it is of no format that can be written.
    """
    return _suffix_of(owner, path, _WRITTEN)


def _suffix_of(owner: str, path: str | os.PathLike[str], known: Sequence[str]) -> str:
    """Return the suffix of a table in lower case, with what it was before it was compressed."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    suffix = "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])
    if suffix not in known:
        expected = f"a file that ends in {', '.join(known)}"
        raise fail(owner, expected, repr(os.fspath(path)), "Rename or convert it.")
    return suffix
