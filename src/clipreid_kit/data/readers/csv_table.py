"""Records from a CSV table, and back."""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clipreid_kit import _read_files
from clipreid_kit._checks import fail, shown
from clipreid_kit._read_files import describe_error
from clipreid_kit.data.readers._extra_values import frame_number
from clipreid_kit.data.readers._integer_columns import integers_if_all, optional_integers_if_all
from clipreid_kit.data.readers._near_names import warn_of_near_names
from clipreid_kit.data.readers._table_columns import (
    BOXES,
    FIELDS,
    REQUIRED,
    columns_of_edges,
    filled_columns,
    find_columns,
    path_with_box,
)
from clipreid_kit.data.readers._write_file import write_text_file, written_path
from clipreid_kit.data.records import ImageRecord

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "|"}
_SEPARATOR_LINE = re.compile(r"sep=[^\"\s]|sep=\t")


def read_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> list[ImageRecord]:
    r"""Read records from a CSV file with a header row.

    Use it for your own data: a table with the columns ``path`` and ``identity`` is enough;
    ``camera``, ``view``, ``caption``, ``split``, ``modality``, ``tracklet`` and ``frame`` are read
    if they exist, and every other column goes to ``extra``, such as ``caption_2`` of an image with
    two captions. Cells are separated by commas, semicolons, tabs or ``|``: by whichever gives a
    header with the columns that are needed, or as a first line ``sep=;`` says. They are quoted with
    ``"``. Empty lines are skipped. The file is UTF-8, with a byte order mark or without, or UTF-16
    with one. A name that ends in ``.gz`` is that of a compressed file.

    A column ``box`` (left, top, width and height, as in COCO) or ``corners`` (left, top, right and
    bottom, as detectors write them) makes a record of that part of the image: four numbers in a
    cell, in pixels, rounded. The record's path then ends in ``#xywh=left,top,width,height``.

    White space around column names and all names (identities, cameras, views, splits, modalities,
    tracklets) is dropped. A
    warning names those that still differ only in case, Unicode form or leading zeros, and a column
    that goes to ``extra`` but is named nearly as a field, such as ``Camera``.

    Identities become integers if *every* identity in the file is an integer literal: ``7`` is one,
    ``0007`` is not, and one such cell keeps all of them strings, so that nothing is lost. The same
    holds for cameras and for tracklets.

    Args:
        path: The table.
        root: Folder that relative image paths start from. Defaults to the folder of the table.
            Absolute paths stay as they are, and so does the part after ``::`` in
            ``archive.zip::member``.
        columns: The table's names for columns that are named otherwise there, such as
            ``{"identity": "pid", "path": "file_name"}``; of a box also of four columns, as in
            ``{"corners": "x1,y1,x2,y2"}``. ``None`` renames nothing.
        delimiter: The character between cells; ``None`` finds it out.
        encoding: Encoding of the file, such as ``"cp1252"`` of Excel in Western Europe; ``None``
            means UTF-8, or UTF-16 with a byte order mark.

    Returns:
        One record for each row, in the order of the table. An empty optional cell gives ``None``;
        an empty cell of another column is left out of ``extra``. A table with a header and no rows
        gives an empty list.

    Raises:
        ValueError: If the file is missing, empty, not UTF-8 or not CSV, a required column is
            missing, a column occurs twice, a row has too few or too many cells, or its path or
            identity is empty (with the number of the row; the header is row 1).

    Example:
        >>> import pathlib, tempfile
        >>> text = "file,identity,caption,age\na.jpg,7,a red coat,30\nb.jpg,12,,\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "images.csv")
        ...     _ = table.write_text(text)
        ...     first, second = read_csv(table, root="images", columns={"path": "file"})
        >>> first.path, first.identity, first.caption, first.extra
        ('images/a.jpg', 7, 'a red coat', {'age': '30'})
        >>> second.identity, second.caption, second.extra
        (12, None, {})
    """
    file = Path(path)
    columns = columns or {}
    needed = [columns.get(field, field) for field in REQUIRED]
    header, rows = _read_rows(file, needed, delimiter, encoding)

    table = _Columns(
        header=header,
        index_of=find_columns("read_csv", file, header, columns),
        edges=columns_of_edges("read_csv", file, header, columns),
        base=file.parent if root is None else Path(root),
    )
    _check_required_cells(file, rows, table)

    # Whether names are integers is decided by all of a column.
    identities = integers_if_all([table.name(row, "identity") for _, row in rows])
    cameras = optional_integers_if_all([table.name(row, "camera") for _, row in rows])
    tracklets = optional_integers_if_all([table.name(row, "tracklet") for _, row in rows])

    records = []
    columns_of_names = zip(rows, identities, cameras, tracklets, strict=True)
    for (number, row), identity, camera, tracklet in columns_of_names:
        where = f"row {number} of {file}"
        records.append(
            ImageRecord(
                path=table.path(row, where),
                identity=identity,
                camera=camera,
                view=table.name(row, "view") or None,
                caption=table.caption(row),
                split=table.name(row, "split") or None,
                extra=table.other_cells(row),
                modality=table.name(row, "modality") or None,
                tracklet=tracklet,
                frame=frame_number("read_csv", table.name(row, "frame"), where),
            )
        )

    warn_of_near_names("read_csv", records)
    return records


def write_csv(
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    *,
    relative_to: str | os.PathLike[str] | None = None,
) -> None:
    """Write records to a CSV file that :func:`read_csv` reads back.

    Use it to keep a split, to edit records in a spreadsheet, or to turn a folder into a table. The
    file is written whole or not at all: under a temporary name, then renamed.

    Columns that no record fills are left out, and keys of ``extra`` follow in sorted order.
    ``None`` is written as an empty cell. A CSV table does not distinguish the string ``"7"`` from
    the number 7: see :func:`read_csv`.

    Args:
        records: The records; an empty sequence gives a table with a header only.
        path: The file to write; its folder has to exist, an existing file is replaced.
        relative_to: Folder that holds all images, to write paths relative to it; pass it as
            ``root`` when reading. ``None`` writes absolute paths.

    Raises:
        ValueError: If an image is not below ``relative_to``, a key of ``extra`` is the name of a
            column, or the file is an image or cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> records = [ImageRecord("images/a.jpg", 7, caption="red, with a hood")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "images.csv")
        ...     write_csv(records, table, relative_to="images")
        ...     text, back = table.read_text(), read_csv(table, root="images")
        >>> print(text.strip())
        path,identity,caption
        a.jpg,7,"red, with a hood"
        >>> back == records
        True
    """
    optional, extra = filled_columns("write_csv", records)

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*REQUIRED, *optional, *extra])

    for record in records:
        path_cell = written_path("write_csv", record.path, relative_to)
        optional_cells = [getattr(record, name) for name in optional]  # None is written as ""
        extra_cells = [record.extra.get(key) for key in extra]
        writer.writerow([path_cell, record.identity, *optional_cells, *extra_cells])

    write_text_file("write_csv", Path(path), text.getvalue(), records)


def _read_rows(
    file: Path, needed: Sequence[str], delimiter: str | None, encoding: str | None
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read the header, and each row that is not empty with its number, checked for its width."""
    text = _read_text(file, encoding)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"read_csv: {file} holds a null character in line {line}, so it is no text, or not "
            "UTF-8. Save the table as comma-separated UTF-8."
        )

    first_line = text.lstrip("\r\n").partition("\n")[0].rstrip("\r")
    if _SEPARATOR_LINE.fullmatch(first_line):  # for Excel
        delimiter = first_line[len("sep=")] if delimiter is None else delimiter
    elif delimiter is None:
        delimiter = _find_delimiter(text, needed)
    _check_delimiter(delimiter)

    rows = [(number, row) for number, row in _parse_rows(file, text, delimiter) if row]
    if rows and _SEPARATOR_LINE.fullmatch(first_line):
        rows = rows[1:]
    if not rows:
        raise ValueError(
            f"read_csv: {file} is empty; expected a header row with the columns path and identity."
        )

    rows = _without_unnamed_columns(rows)
    header = [_column_name(name) for name in rows[0][1]]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"read_csv: row {number} of {file} has {len(row)} cells, the header has "
                f"{len(header)}. Put cells that hold {_DELIMITERS.get(delimiter, delimiter)} "
                'between ".'
            )
    return header, rows[1:]


def _without_unnamed_columns(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Leave out the columns at the end that have no name and no cell, as spreadsheets add them."""
    width = len(rows[0][1])
    kept = width
    while kept > 1 and not any("".join(row[kept - 1 : kept]).strip() for _, row in rows):
        kept -= 1

    if kept == width or any(len(row) != width for _, row in rows):
        return rows
    return [(number, row[:kept]) for number, row in rows]


def _read_text(file: Path, encoding: str | None) -> str:
    """Read the text of a table, which may be compressed."""
    try:
        content = _read_files.read_bytes(file)
        if file.suffix.lower() == ".gz":
            content = _read_files.gunzip(content)

        return content.decode(encoding or _encoding_of(content)).removeprefix("\ufeff")
    except FileNotFoundError as error:
        raise ValueError(f"read_csv: there is no file at {file}. Correct the path.") from error
    except LookupError as error:
        raise ValueError(
            f"read_csv: there is no encoding {shown(encoding)}; a common one is 'cp1252'."
        ) from error
    except (OSError, ValueError) as error:
        remedy = "Save the table as UTF-8"
        if isinstance(error, UnicodeDecodeError) and encoding is None:
            remedy += ", or pass encoding=, such as 'cp1252' of Excel in Western Europe"

        raise ValueError(
            f"read_csv: cannot read {file}: {describe_error(error)}. {remedy}."
        ) from error


def _encoding_of(content: bytes) -> str:
    """Return the encoding that the first bytes of a text tell."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _find_delimiter(text: str, needed: Sequence[str]) -> str:
    """Return the delimiter by which the first row has the columns that are needed.

    Without one, it is that of most columns, so that the error lists them.
    """
    names = {name.strip() for name in needed}
    widths: dict[str, int] = {}
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            header = next(filter(None, reader), [])  # the first row that is not empty
        except csv.Error:
            continue

        if names <= {cell.strip() for cell in header}:
            return delimiter
        widths[delimiter] = len(header)

    return max(widths, key=widths.__getitem__, default=",")


def _check_delimiter(delimiter: str) -> None:
    """Raise ValueError if a delimiter cannot be one."""
    if len(delimiter) != 1 or delimiter in '"\r\n ':
        raise fail("read_csv", "delimiter as one character, such as ';'", shown(delimiter))


def _column_name(name: str) -> str:
    """Return the name of a column; that of a field without white space around it."""
    return name.strip() if name.strip() in FIELDS else name


def _parse_rows(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with its number, from 1; raise ValueError with the number of a broken row."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    number = 0
    try:
        for row in reader:
            number += 1
            yield number, row
    except csv.Error as error:
        raise ValueError(
            f"read_csv: row {number + 1} of {file}, which ends in line {reader.line_num}, "
            f"{_problem_of_row(error)}"
        ) from error


def _problem_of_row(error: csv.Error) -> str:
    """Say what is wrong in a row that is not CSV, and what to do."""
    text = str(error)
    if "unexpected end of data" in text:
        return 'has a quote (") that is never closed. Close it, or write "" for a quote in a cell.'
    if "field larger than field limit" in text:
        return (
            f"has a cell of more than {csv.field_size_limit()} characters. Is a quote before it "
            "not closed? Shorten the cell."
        )
    return f'is not CSV: {text}. Write "" for a quote in a cell.'


@dataclass(frozen=True)
class _Columns:
    """Columns of a table, to find the cells of its rows.

    Attributes:
        header: Names of all columns.
        index_of: Position of each field that the table has.
        edges: Names of the four columns of a box, by field.
        base: Folder that relative image paths start from.
    """

    header: Sequence[str]
    index_of: Mapping[str, int]
    edges: Mapping[str, list[str]]
    base: Path

    def cell(self, row: Sequence[str], field: str) -> str:
        """Return the cell of a field; an empty string if the table has no such column."""
        return row[self.index_of[field]] if field in self.index_of else ""

    def name(self, row: Sequence[str], field: str) -> str:
        """Return the cell of a field without white space around it."""
        return self.cell(row, field).strip()

    def caption(self, row: Sequence[str]) -> str | None:
        """Return the caption of a row as it is written; ``None`` if it is empty or blank."""
        caption = self.cell(row, "caption")
        return caption if caption.strip() else None

    def path(self, row: Sequence[str], where: str) -> str:
        """Return the path of a row's image, with the box of the part that is meant."""
        path = str(self.base / self.cell(row, "path"))
        if not self.edges and not any(field in self.index_of for field in BOXES):
            return path

        cells = dict(zip(self.header, row, strict=True))
        boxes = {field: self.cell(row, field) for field in BOXES}
        return path_with_box("read_csv", path, {**cells, **boxes}, self.edges, where)

    def other_cells(self, row: Sequence[str]) -> dict[str, str]:
        """Return the cells of all other columns that are not empty."""
        used = self.used
        cells = {}
        for index, cell in enumerate(row):
            if cell and index not in used:
                cells[self.header[index]] = cell
        return cells

    @cached_property
    def used(self) -> set[int]:
        """Positions of the columns of all fields and boxes."""
        of_edges = [name for names in self.edges.values() for name in names]
        return {*self.index_of.values(), *map(self.header.index, of_edges)}


def _check_required_cells(
    file: Path, rows: Sequence[tuple[int, list[str]]], table: _Columns
) -> None:
    """Raise ValueError if a row has no path or identity."""
    for number, row in rows:
        for field in REQUIRED:
            if not table.name(row, field):
                column = table.header[table.index_of[field]]
                raise ValueError(
                    f"read_csv: column {column!r} is empty in row {number} of {file}. Fill the "
                    "cell or drop the row."
                )
