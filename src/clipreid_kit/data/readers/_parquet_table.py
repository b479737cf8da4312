"""Records from Parquet files, and back; needs pyarrow."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipreid_kit._read_files import MAX_BYTES, UnusableFileError, describe_error, exists, open_file
from clipreid_kit.data.readers._image_columns import (
    Row,
    columns_of_images,
    columns_with_image,
    import_pyarrow,
    rows_with_cells,
)
from clipreid_kit.data.readers._table_columns import filled_columns
from clipreid_kit.data.readers._typed_rows import typed_records
from clipreid_kit.data.readers._write_file import (
    unwritable,
    write_table_file,
    written_path,
)
from clipreid_kit.data.records import ImageRecord

_ROWS_AT_ONCE = 1024


def read_parquet_records(
    owner: str,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from a Parquet file."""
    pa, parquet = import_pyarrow(owner)
    file = Path(path)
    if not exists(file):
        raise ValueError(f"{owner}: there is no file at {file}. Correct the path.")

    try:
        with open_file(file) as stream:
            # Cells of images are found beside the table, wherever the paths of others begin.
            name = file.name if root is None else str(file.absolute())
            rows = _read_rows(parquet.ParquetFile(stream), name)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(describe_error(error).split())  # pyarrow's texts end with a new line
        raise ValueError(
            f"{owner}: cannot read {file} as Parquet: {reason}. Write the table again."
        ) from error

    renamed = columns_with_image(columns or {}, rows)
    return typed_records(owner, file, rows, renamed, file.parent if root is None else Path(root))


def _read_rows(file: Any, name: str) -> list[Row]:  # noqa: ANN401 (pyarrow's)
    """Read all rows of an open file; raise UnusableFileError if they are too large or ambiguous."""
    images = columns_of_images(file.schema_arrow)
    texts = [column for column in file.schema_arrow.names if column not in images]
    return rows_with_cells(_read_columns(file, texts), file.schema_arrow.names, name)


def _read_columns(file: Any, columns: Sequence[str]) -> Any:  # noqa: ANN401 (pyarrow's)
    """Read columns piece by piece, up to the limit of a file that is read whole.

    The sizes that the file states are not asked for: damaged ones end the process in pyarrow.
    """
    import pyarrow as pa

    pieces = []
    size = 0
    for piece in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
        size += piece.nbytes
        if size > MAX_BYTES:
            raise UnusableFileError(f"it unpacks to more than the limit of {MAX_BYTES} bytes")
        pieces.append(piece)

    return pa.Table.from_batches(pieces) if pieces else file.read(columns=columns)


def write_parquet_records(
    owner: str,
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    relative_to: str | os.PathLike[str] | None,
) -> None:
    """Write records as Parquet; a column holds integers or strings, not both."""
    pa, parquet = import_pyarrow(owner)
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
