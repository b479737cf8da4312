"""Records from rows whose values have types, as JSON and Parquet files hold them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.readers._extra_values import is_empty, text_of
from clipreid_kit.data.readers._table_columns import REQUIRED, find_columns
from clipreid_kit.data.records import ImageRecord

Row = Mapping[str, object]


def typed_records(
    owner: str, file: Path, rows: Sequence[Row], columns: Mapping[str, str], root: Path
) -> list[ImageRecord]:
    """Build a record from each row."""
    if not rows:
        return []

    # Single rows may lack keys: the header is all keys, in the order of their first occurrence.
    header = list(dict.fromkeys(name for row in rows for name in row))
    index_of = find_columns(owner, file, header, columns)
    column_of = {field: header[index] for field, index in index_of.items()}

    records = []
    for number, row in enumerate(rows, start=1):
        where = f"record {number} of {file}"
        records.append(_record(owner, row, column_of, root, where))
    return records


def _record(
    owner: str, row: Row, column_of: Mapping[str, str], root: Path, where: str
) -> ImageRecord:
    """Build a record from a row; ``where`` names the row in errors."""
    values = {field: row.get(column) for field, column in column_of.items()}
    for field in REQUIRED:
        if _is_blank(values[field]):
            raise ValueError(
                f"{owner}: {column_of[field]!r} is missing in {where}. Fill it or drop the record."
            )

    camera = values.get("camera")
    extra = {}
    for name, value in row.items():
        if name not in column_of.values() and not is_empty(value):
            extra[name] = text_of(value)

    return ImageRecord(
        path=str(root / str(values["path"])),
        identity=_integer_or_name(owner, "identity", values["identity"], where),
        camera=None if _is_blank(camera) else _integer_or_name(owner, "camera", camera, where),
        view=_optional_text(values.get("view")),
        caption=_optional_text(values.get("caption")),
        split=_optional_text(values.get("split")),
        extra=extra,
    )


def _is_blank(value: object) -> bool:
    """Return whether a value is empty or nothing but spaces."""
    return is_empty(value) or (isinstance(value, str) and not value.strip())


def _integer_or_name(owner: str, field: str, value: object, where: str) -> int | str:
    """Return an identity or camera, checked."""
    # Integers become floats in columns with empty cells.
    if isinstance(value, float) and value.is_integer():
        return int(value)

    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    raise fail(owner, f"{field} as a whole number or a string", f"{value!r} in {where}")


def _optional_text(value: object) -> str | None:
    """Return a value as a string; ``None`` if it is empty."""
    return None if is_empty(value) else text_of(value)
