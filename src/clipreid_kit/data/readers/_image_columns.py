"""Columns of pyarrow's tables that hold images, whose cells become paths; needs pyarrow."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from clipreid_kit._read_files import UnusableFileError
from clipreid_kit.data.files.archives import split_member

Row = dict[str, object]


def import_pyarrow(owner: str) -> tuple[ModuleType, ModuleType]:
    """Import pyarrow and its Parquet module, which are an optional dependency."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{owner} needs pyarrow for Parquet and Arrow. Install it with: pip install pyarrow"
        ) from error
    return pa, parquet


def columns_of_images(schema: Any) -> list[str]:  # noqa: ANN401 (pyarrow's, without types)
    """Return the names of the columns that hold images; raise UnusableFileError if one is twice."""
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        shown = ", ".join(map(repr, repeated))
        raise UnusableFileError(f"the columns {shown} occur more than once")

    return [field.name for field in schema if _holds_bytes(field.type)]


def _holds_bytes(kind: Any) -> bool:  # noqa: ANN401 (pyarrow's)
    """Return whether a column is of bytes, or of structs with bytes, as Hugging Face has images."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def rows_with_cells(texts: Any, names: Sequence[str], file: str) -> list[Row]:  # noqa: ANN401
    """Return the rows of a table, in which a cell of an image is its path.

    Args:
        texts: The table without its columns of images.
        names: Names of all columns, in their order.
        file: Path of the file in which the images are; it begins their paths.
    """
    rows: list[Row] = texts.to_pylist() if texts.num_columns else [{}] * texts.num_rows
    images = [name for name in names if name not in texts.column_names]

    filled = []
    for number, row in enumerate(rows):
        cells = {name: f"{file}::{name}/{number}" for name in images}
        values = {**row, **cells}
        filled.append({name: values[name] for name in names})
    return filled


def columns_with_image(columns: Mapping[str, str], rows: Sequence[Row]) -> Mapping[str, str]:
    """Add the column of images as the path, where a table has one such column and no path."""
    if not rows or "path" in columns or "path" in rows[0]:
        return columns

    images = [name for name, value in rows[0].items() if is_cell(value, name)]
    return {**columns, "path": images[0]} if len(images) == 1 else columns


def is_cell(value: object, column: str) -> bool:
    """Return whether a value is the path of a cell of a column."""
    if not isinstance(value, str):
        return False
    _, member = split_member(value)
    return member is not None and member.rpartition("/")[0] == column
