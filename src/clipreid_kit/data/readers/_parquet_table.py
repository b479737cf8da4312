"""Records from Parquet files, and back; needs pyarrow."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from clipreid_kit._read_files import MAX_BYTES, UnusableFileError, describe_error, exists, open_file
from clipreid_kit.data.readers._table_columns import FIELDS, filled_columns
from clipreid_kit.data.readers._typed_rows import typed_records
from clipreid_kit.data.readers._write_file import (
    unwritable,
    write_table_file,
    written_path,
)
from clipreid_kit.data.records import ImageRecord


def read_parquet_records(
    owner: str,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from a Parquet file."""
    pa, parquet = _import_pyarrow(owner)
    file = Path(path)
    if not exists(file):
        raise ValueError(f"{owner}: there is no file at {file}. Correct the path.")

    try:
        with open_file(file) as stream:
            # Cells of images are found beside the table, wherever the paths of others begin.
            name = file.name if root is None else str(file.absolute())
            rows = _read_rows(parquet.ParquetFile(stream), name, columns or {})
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(describe_error(error).split())  # pyarrow's texts end with a new line
        raise ValueError(
            f"{owner}: cannot read {file} as Parquet: {reason}. Write the table again."
        ) from error

    return typed_records(
        owner, file, rows, columns or {}, file.parent if root is None else Path(root)
    )


def _read_rows(
    file: Any,  # noqa: ANN401 (pyarrow's)
    name: str,
    columns: Mapping[str, str],
) -> list[dict[str, object]]:
    """Read all rows of an open file; raise UnusableFileError if they are too large or ambiguous.

    Images stay in the file: a cell of bytes becomes the path of the cell.
    """
    names = file.schema_arrow.names
    repeated = sorted({column for column in names if names.count(column) > 1})
    if repeated:
        shown = ", ".join(map(repr, repeated))
        raise UnusableFileError(f"the columns {shown} occur more than once")

    images = [field.name for field in file.schema_arrow if _holds_bytes(field.type)]
    for field in FIELDS:
        # Each cell of bytes would be a value of its own.
        if field != "path" and columns.get(field, field) in images:
            raise UnusableFileError(
                f"the column {columns.get(field, field)!r} holds bytes, not text or numbers"
            )

    texts = [column for column in names if column not in images]
    size = _size_of(file.metadata, images)
    if size > MAX_BYTES:
        raise UnusableFileError(f"it unpacks to {size} bytes, more than the limit of {MAX_BYTES}")

    rows: list[dict[str, object]] = file.read(columns=texts).to_pylist()
    if not texts:
        rows = [{} for _ in range(file.metadata.num_rows)]
    for number, row in enumerate(rows):
        row |= {column: f"{name}::{column}/{number}" for column in images}
    return [{column: row[column] for column in names} for row in rows]


def _holds_bytes(kind: Any) -> bool:  # noqa: ANN401 (pyarrow's)
    """Return whether a column is of bytes, or of structs with bytes, as Hugging Face has images."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _size_of(metadata: Any, images: Sequence[str]) -> int:  # noqa: ANN401 (pyarrow's)
    """Return the unpacked size of all columns but those of images."""
    size = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for number in range(group.num_columns):
            column = group.column(number)
            if column.path_in_schema.split(".")[0] not in images:
                size += column.total_uncompressed_size
    return size


def write_parquet_records(
    owner: str,
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    relative_to: str | os.PathLike[str] | None,
) -> None:
    """Write records as Parquet; a column holds integers or strings, not both."""
    pa, parquet = _import_pyarrow(owner)
    optional, extra = filled_columns(owner, records)

    table: dict[str, list[object]] = {
        "path": [written_path(owner, record.path, relative_to) for record in records],
        "identity": [record.identity for record in records],
    }
    for name in optional:
        table[name] = [getattr(record, name) for record in records]
    for key in extra:
        table[key] = [record.extra.get(key) for record in records]
    _check_one_type(owner, table)

    target = Path(path)
    content = io.BytesIO()
    try:
        parquet.write_table(pa.table(table), content)
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise unwritable(owner, target, error) from error
    write_table_file(owner, target, content.getvalue(), records)


def _check_one_type(owner: str, table: Mapping[str, Sequence[object]]) -> None:
    """Raise ValueError if identities or cameras are integers and strings."""
    for name in ("identity", "camera"):
        values = [value for value in table.get(name, ()) if value is not None]
        types = sorted({type(value).__name__ for value in values})
        if len(types) > 1:
            raise ValueError(
                f"{owner}: the column {name} holds {' and '.join(types)}, and Parquet takes one "
                "type. The integer 1 and the string '1' are different: map all to one type."
            )


def _import_pyarrow(owner: str) -> tuple[ModuleType, ModuleType]:
    """Import pyarrow and its Parquet module, which are an optional dependency."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{owner} needs pyarrow for Parquet. Install it with: pip install pyarrow"
        ) from error
    return pa, parquet
