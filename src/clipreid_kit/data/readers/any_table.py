"""Records from a table of any kind, and back: CSV, JSON, JSON Lines and Parquet by the file's suffix."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.readers.csv_table import read_csv, write_csv
from clipreid_kit.data.readers.json_table import json_records, write_json_records
from clipreid_kit.data.readers.parquet_table import parquet_records, write_parquet_records
from clipreid_kit.data.records import ImageRecord


def read_table(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[ImageRecord]:
    r"""Read records from a table: ``.csv``, ``.json``, ``.jsonl`` or ``.parquet``.

    Use it for a data set of your own that is described in a file. Columns are as for :func:`read_csv`:
    ``path`` and ``identity`` are enough, ``camera``, ``view``, ``caption`` and ``split`` are read if there,
    and every other column goes to ``extra``. A JSON file is one list of objects, a JSON Lines file an object
    a line, and keys may be missing from single objects.

    JSON and Parquet know numbers from texts, so identities and cameras keep their kind: ``7`` and ``"7"`` are
    different. Values of ``extra`` are texts; what is no text is kept as its JSON, such as ``true``.

    Args:
        path: The table; its suffix says what it is. Parquet needs pyarrow.
        root: Folder that relative image paths begin at; ``None`` means the folder of the table.
        columns: The table's names for the columns that are named otherwise there, such as
            ``{"identity": "pid"}``. ``None`` means no renaming.

    Returns:
        One record for each row, in the table's order; empty for a table without rows. ``None``, an empty text
        and NaN give ``None``, or leave a key of ``extra`` out.

    Raises:
        ValueError: If the suffix is another one, the file is missing or damaged, a needed column or value is
            missing, or an identity is neither a whole number nor a text.
        ImportError: If the file is Parquet and pyarrow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "images.jsonl")
        ...     _ = table.write_text('{"path": "a.jpg", "identity": 7}\n{"path": "b.jpg", "identity": 7, "age": 30}\n')
        ...     first, second = read_table(table, root="images")
        >>> first.path, first.identity, second.extra
        ('images/a.jpg', 7, {'age': '30'})
    """
    kind = _kind("read_table", path)
    if kind == ".csv":
        return read_csv(path, root=root, columns=columns)
    read = parquet_records if kind == ".parquet" else json_records
    return read("read_table", path, root, columns)


def write_table(
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    *,
    relative_to: str | os.PathLike[str] | None = None,
) -> None:
    """Write records to a table that :func:`read_table` reads back: ``.csv``, ``.json``, ``.jsonl`` or ``.parquet``.

    Use it to keep what a reader found, to edit it, or to hand it to another program. The file appears whole
    or not at all.

    Args:
        records: What to write, in this order.
        path: Where to; its suffix says as what. The folder has to exist, an existing file is replaced.
        relative_to: Folder that holds all images, to write paths relative to it; pass it as ``root`` when
            reading. ``None`` writes absolute paths.

    Raises:
        ValueError: If the suffix is another one, an image lies outside ``relative_to``, ``extra`` has a key
            that is a column's name, or the file cannot be written.
        ImportError: If the file is Parquet and pyarrow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "images.jsonl")
        ...     write_table([ImageRecord("images/a.jpg", 7, camera="door")], table, relative_to="images")
        ...     print(table.read_text().strip())
        {"path": "a.jpg", "identity": 7, "camera": "door"}
    """
    kind = _kind("write_table", path)
    if kind == ".csv":
        write_csv(records, path, relative_to=relative_to)
    else:
        write = write_parquet_records if kind == ".parquet" else write_json_records
        write("write_table", records, path, relative_to)


_KINDS = (".csv", ".json", ".jsonl", ".parquet")


def _kind(owner: str, path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        raise fail(
            owner,
            f"a file that ends in {', '.join(_KINDS)}",
            repr(os.fspath(path)),
            "Rename or convert it.",
        )
    return suffix
