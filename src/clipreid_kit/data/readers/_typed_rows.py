"""Records from rows whose values have types, as JSON and Parquet files hold them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import fail, shown
from clipreid_kit.data.readers._extra_values import (
    captions_of,
    frame_number,
    further_captions,
    integer_or_name,
    is_blank,
    is_empty,
    optional_name,
    optional_text,
    text_of,
)
from clipreid_kit.data.readers._image_columns import is_cell
from clipreid_kit.data.readers._near_names import warn_of_near_names
from clipreid_kit.data.readers._table_columns import (
    BOXES,
    REQUIRED,
    columns_of_edges,
    find_columns,
    path_with_box,
)
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
    edges = columns_of_edges(owner, file, header, columns)
    _check_no_bytes(owner, file, rows[0], column_of)

    records = []
    for number, row in enumerate(rows, start=1):
        where = f"record {number} of {file}"
        records.append(_record(owner, row, column_of, edges, root, where))

    warn_of_near_names(owner, records)
    return records


def _check_no_bytes(owner: str, file: Path, row: Row, column_of: Mapping[str, str]) -> None:
    """Raise ValueError if a field is a column of bytes: each cell would be a value of its own."""
    for field, column in column_of.items():
        if field != "path" and is_cell(row.get(column), column):
            raise ValueError(
                f"{owner}: the column {column!r} of {file} holds bytes, not text or numbers. "
                f"Write it as text, or pass columns= with another column for the {field}."
            )


def _record(
    owner: str,
    row: Row,
    column_of: Mapping[str, str],
    edges: Mapping[str, list[str]],
    root: Path,
    where: str,
) -> ImageRecord:
    """Build a record from a row; ``where`` names the row in errors."""
    values = {field: row.get(column) for field, column in column_of.items()}
    for field in REQUIRED:
        if is_blank(values[field]):
            raise ValueError(
                f"{owner}: {column_of[field]!r} is missing in {where}. Fill it or drop the record."
            )

    path = values["path"]
    if not isinstance(path, str):
        raise fail(owner, f"{column_of['path']} as a string", f"{shown(path)} in {where}")

    boxes = {field: values.get(field) for field in BOXES}
    captions = captions_of(owner, values.get("caption"), where)
    used = {*column_of.values(), *(name for names in edges.values() for name in names)}

    return ImageRecord(
        path=path_with_box(owner, str(root / path), {**row, **boxes}, edges, where),
        identity=integer_or_name(owner, "identity", values["identity"], where),
        camera=optional_name(owner, "camera", values.get("camera"), where),
        view=optional_text(owner, "view", values.get("view"), where),
        caption=captions[0] if captions else None,
        split=optional_text(owner, "split", values.get("split"), where),
        tracklet=optional_name(owner, "tracklet", values.get("tracklet"), where),
        frame=frame_number(owner, values.get("frame"), where),
        extra=_extra(owner, row, used, captions, where),
        modality=optional_text(owner, "modality", values.get("modality"), where),
    )


def _extra(
    owner: str, row: Row, used: Collection[str], captions: Sequence[str], where: str
) -> dict[str, str]:
    """Return the values that are not empty of columns that are no field, and further captions."""
    extra = further_captions(captions)
    for name, value in row.items():
        if name in used or is_empty(value):
            continue
        if name in extra:
            raise ValueError(
                f"{owner}: {where} has a list of captions and {name!r}, which is the name of one "
                "of them. Put all captions into the list, or rename the key."
            )
        extra[name] = text_of(value)
    return extra
