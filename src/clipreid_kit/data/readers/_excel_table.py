"""Records from the first sheet of an Excel file; needs openpyxl."""

import os
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from clipreid_kit import _read_files
from clipreid_kit._read_files import MAX_BYTES, UnusableFileError, describe_error
from clipreid_kit.data.readers._typed_rows import typed_records
from clipreid_kit.data.records import ImageRecord


def read_excel_records(
    owner: str,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from an Excel file; formulas count with the values that were saved."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise ImportError(
            f"{owner} needs openpyxl for Excel. Install it with: pip install clipreid_kit[excel]"
        ) from error

    file = Path(path)
    try:
        _check_unpacked_size(file)
        with _read_files.open_file(file) as stream:
            book = load_workbook(stream, read_only=True, data_only=True)
            rows = _rows_of(book.worksheets[0].iter_rows(values_only=True))
    except FileNotFoundError as error:
        raise ValueError(f"{owner}: there is no file at {file}. Correct the path.") from error
    # openpyxl raises errors of many kinds for damaged files.
    except Exception as error:
        raise ValueError(
            f"{owner}: cannot read {file} as Excel: {describe_error(error)}. Save the table again, "
            "or as CSV."
        ) from error

    return typed_records(
        owner, file, rows, columns or {}, file.parent if root is None else Path(root)
    )


def _check_unpacked_size(file: Path) -> None:
    """Raise UnusableFileError if the parts of the file would fill the memory."""
    with _read_files.open_archive(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise UnusableFileError(f"it unpacks to {size} bytes, more than the limit of {MAX_BYTES}")


def _rows_of(cells: Iterable[tuple[object, ...]]) -> list[dict[str, object]]:
    """Return the rows below the header that are not empty."""
    header: list[str] | None = None
    rows = []
    for row in cells:
        if all(cell is None for cell in row):
            continue
        if header is None:
            header = _header_of(row)
            continue
        rows.append(_named(header, row))
    return rows


def _header_of(row: tuple[object, ...]) -> list[str]:
    """Return the names of the columns; one without a name is called by its number."""
    names = []
    for number, cell in enumerate(row, start=1):
        names.append(f"column {number}" if cell is None else str(cell).strip())

    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UnusableFileError(f"the columns {', '.join(repeated)} occur more than once")
    return names


def _named(header: list[str], row: tuple[object, ...]) -> dict[str, object]:
    """Return the cells of a row by the names of their columns; days without their midnight."""
    named: dict[str, object] = {}
    for name, cell in zip(header, row, strict=False):
        is_day = isinstance(cell, date) and str(cell).endswith(" 00:00:00")
        named[name] = str(cell)[:10] if is_day else cell
    return named
