"""Records from Parquet files, and back; needs pyarrow."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.data.readers._columns import filled_columns, typed_records, written_path
from clipreid_kit.data.records import ImageRecord


def parquet_records(
    owner: str,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from a Parquet file."""
    pa, parquet = _pyarrow(owner)
    file = Path(path)
    if not file.is_file():
        raise fail(owner, "an existing table", f"no file at {file}", "Correct the path.")
    try:
        rows = parquet.read_table(file).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise fail(
            owner,
            f"{file} as Parquet",
            f"{type(error).__name__}: {error}",
            "Write the table again.",
        ) from error
    return typed_records(
        owner, file, rows, columns or {}, file.parent if root is None else Path(root)
    )


def write_parquet_records(
    owner: str,
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    relative_to: str | os.PathLike[str] | None,
) -> None:
    """Write records as Parquet; a column holds integers or texts, not both."""
    pa, parquet = _pyarrow(owner)
    optional, extra = filled_columns(owner, records)
    table: dict[str, list[object]] = {
        "path": [written_path(owner, record.path, relative_to) for record in records],
        "identity": [record.identity for record in records],
        **{name: [getattr(record, name) for record in records] for name in optional},
        **{key: [record.extra.get(key) for record in records] for key in extra},
    }
    for name in ("identity", "camera"):
        kinds = {type(value).__name__ for value in table.get(name, ()) if value is not None}
        if len(kinds) > 1:
            remedy = "Map all of them to one kind: the integer 1 and the string '1' are different."
            raise fail(
                owner, f"{name} as integers or as strings", " and ".join(sorted(kinds)), remedy
            )
    content = io.BytesIO()
    target = Path(path)
    try:
        parquet.write_table(pa.table(table), content)
        write_whole(target, content.getvalue())
    except (OSError, UnicodeEncodeError, pa.ArrowException) as error:
        raise fail(
            owner, f"to write {target}", str(error), "Check the folder and the records' texts."
        ) from error


def _pyarrow(owner: str) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{owner} needs pyarrow for Parquet. Install it with: pip install pyarrow"
        ) from error
    return pa, parquet
