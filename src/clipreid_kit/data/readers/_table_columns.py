"""Columns of a table and the fields of a record that they fill, in any kind of file."""

import difflib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import shown
from clipreid_kit.data.files.boxes import four_numbers, with_box
from clipreid_kit.data.files.file_tree import is_image
from clipreid_kit.data.files.near_names import plain_name
from clipreid_kit.data.records import ImageRecord, check_records

REQUIRED = ("path", "identity")
OPTIONAL = ("camera", "view", "caption", "split", "modality", "tracklet", "frame")
BOXES = ("box", "corners")  # of a part of the image: they become a part of its path
FIELDS = (*REQUIRED, *OPTIONAL, *BOXES)

# Other common names, without case, spaces and underscores.
_OTHER_NAMES = {
    "camera": ("cam", "cams", "camid", "camids", "cameraid", "cameras"),
    "view": ("views", "viewpoint"),
    "caption": ("captions",),
    "split": ("splits", "subset"),
    "modality": ("modalities", "modal"),
    "tracklet": ("tracklets", "trackletid"),
    "frame": ("frames", "frameid"),
}


def find_columns(
    owner: str, file: Path, header: Sequence[str], columns: Mapping[str, str]
) -> dict[str, int]:
    """Find the column of each field: its index in the header.

    ``columns`` holds the table's names of fields that are named otherwise there.
    """
    _check_distinct(owner, file, header)
    _check_renamed_fields(owner, columns)

    index_of: dict[str, int] = {}
    for field in FIELDS:
        name = columns.get(field, field)
        if field in BOXES and name not in header and len(names_of_edges(name)) == 4:
            continue  # four columns: see column_of_edges
        if name in header:
            index_of[field] = header.index(name)
        elif field in REQUIRED or field in columns:
            names = ", ".join(map(shown, header[:30])) + (", ..." if len(header) > 30 else "")
            raise ValueError(
                f"{owner}: {file} has no column {name!r}; its columns are {names}. "
                f"{_remedy_for_missing_column(field, name, header)}"
            )

    _check_one_box(owner, columns, index_of)
    if len(set(index_of.values())) < len(index_of):
        raise ValueError(f"{owner}: columns maps two fields to one column: {dict(columns)}.")

    warn_of_near_columns(owner, file, header, index_of)
    return index_of


def names_of_edges(names: str) -> list[str]:
    """Return the names of columns that are separated by commas."""
    return [name.strip() for name in names.split(",")]


def columns_of_edges(
    owner: str, file: Path, header: Sequence[str], columns: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the names of the four columns of a box, where they are four.

    The result is empty, or has the one key ``box`` or ``corners``.
    """
    found: dict[str, list[str]] = {}
    for field in BOXES:
        names = names_of_edges(columns.get(field, ""))
        if columns.get(field) in header or len(names) != 4:
            continue

        missing = [name for name in names if name not in header]
        if missing:
            raise ValueError(
                f"{owner}: {file} has no column {missing[0]!r}, which columns[{field!r}] names. "
                f"Its columns are {', '.join(map(shown, header[:30]))}."
            )
        found[field] = names
    return found


def path_with_box(
    owner: str, path: str, values: Mapping[str, object], edges: Mapping[str, list[str]], where: str
) -> str:
    """Add the box of a row to its path, if the row has one.

    Args:
        owner: Name of the reader, for errors.
        path: The image.
        values: The cells of the row by the names of their columns, and those of the fields ``box``
            and ``corners`` by the names of the fields.
        edges: As :func:`columns_of_edges` returns them.
        where: Name of the row, for errors.
    """
    for field in BOXES:
        value = values.get(field)
        if field in edges:
            cells = [values.get(name) for name in edges[field]]
            filled = [cell for cell in cells if cell is not None and str(cell).strip()]
            value = " ".join(map(str, filled)) if filled else None

        numbers = four_numbers(owner, value, where)
        if numbers is not None:
            left, top, third, fourth = numbers
            right, bottom = (left + third, top + fourth) if field == "box" else (third, fourth)
            return with_box(owner, path, (left, top, right, bottom), where)
    return path


def _check_one_box(owner: str, columns: Mapping[str, str], index_of: Mapping[str, int]) -> None:
    """Raise ValueError if a table has a box in both notations."""
    if all(field in columns or field in index_of for field in BOXES):
        raise ValueError(
            f"{owner}: the table has box (left, top, width, height) and corners (left, top, right, "
            "bottom). Rename the one that is not the part of the image."
        )


def warn_of_near_columns(
    owner: str,
    file: Path,
    header: Sequence[str],
    index_of: Mapping[str, int],
    remedy: str = "pass columns={{{field!r}: {name!r}}}",
) -> None:
    """Warn of columns that go to ``extra``, but are named nearly as a field that is not found."""
    used = {header[index] for index in index_of.values()}
    by_spelling = {_spelling(name): name for name in header if name not in used}

    for field in (*REQUIRED, *OPTIONAL):
        if field in index_of:
            _warn_of_second_spelling(owner, file, header[index_of[field]], by_spelling)
            continue
        if field in REQUIRED:
            continue

        spellings = [name for name in (field, *_OTHER_NAMES[field]) if name in by_spelling]
        spellings += difflib.get_close_matches(field, by_spelling, n=1, cutoff=0.8)
        if spellings:
            name = by_spelling[spellings[0]]
            warnings.warn(
                f"{owner}: the column {name!r} of {file} goes to extra, and no record has a "
                f"{field}. If it is the {field}, {remedy.format(field=field, name=name)}.",
                stacklevel=4,
            )


def _warn_of_second_spelling(
    owner: str, file: Path, column: str, by_spelling: Mapping[str, str]
) -> None:
    """Warn of a column that is spelled nearly as that of a field: some rows may have either."""
    other = by_spelling.get(_spelling(column))
    if other is not None:
        warnings.warn(
            f"{owner}: the column {other!r} of {file} goes to extra, beside {column!r}. If they "
            "are one, write it in one way in all rows.",
            stacklevel=5,
        )


def _spelling(name: str) -> str:
    """Return a column's name without case, spaces, underscores and hyphens."""
    return "".join(character for character in plain_name(name) if character.isalnum())


def filled_columns(owner: str, records: Sequence[ImageRecord]) -> tuple[list[str], list[str]]:
    """Return the optional fields that any record fills, and the keys of ``extra``, sorted."""
    check_names(owner, records)
    optional = [field for field in OPTIONAL if _is_filled(field, records)]
    extra = sorted({key for record in records for key in record.extra})
    clashes = [key for key in extra if key.strip() in FIELDS]
    if clashes:
        raise ValueError(
            f"{owner}: the keys {', '.join(clashes)} of extra are names of columns already. "
            "Rename those keys."
        )

    return optional, extra


def check_names(owner: str, records: Sequence[ImageRecord]) -> None:
    """Raise ValueError if a name has white space around it, which readers drop."""
    check_records(owner, records)
    for field in ("identity", "camera", "view", "split", "modality", "tracklet"):
        for record in records:
            value = getattr(record, field)
            if isinstance(value, str) and value != value.strip():
                raise ValueError(
                    f"{owner}: the {field} {value!r} of {record.path} has white space around it, "
                    "which would be lost in the file. Strip it."
                )


def _is_filled(field: str, records: Sequence[ImageRecord]) -> bool:
    """Return whether any record has a value for a field."""
    return any(getattr(record, field) is not None for record in records)


def _check_distinct(owner: str, file: Path, header: Sequence[str]) -> None:
    """Raise ValueError if a column name occurs twice."""
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{owner}: the columns {', '.join(map(repr, repeated))} occur more than once in "
            f"{file}. Rename or remove the others."
        )


def _check_renamed_fields(owner: str, columns: Mapping[str, str]) -> None:
    """Raise ValueError if a key of ``columns`` is not a field."""
    unknown = [name for name in columns if name not in FIELDS]
    if unknown:
        raise ValueError(
            f"{owner}: columns has the keys {', '.join(map(repr, unknown))}; its keys are among "
            f"{', '.join(FIELDS)}, its values names in the table. All other columns go to extra."
        )


def _remedy_for_missing_column(field: str, name: str, header: Sequence[str]) -> str:
    """Return the most likely reason for a missing column."""
    if any(is_image(found) for found in header):
        return "Its first row has to name the columns."

    by_spelling = {found.strip().lower(): found for found in header}
    nearest = difflib.get_close_matches(name.lower(), by_spelling, n=1)
    guess = shown(by_spelling[nearest[0]]) if nearest else "<its name in the table>"
    return f"If it is named otherwise, pass columns={{{field!r}: {guess}}}."
