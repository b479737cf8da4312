"""Records from a CSV table, and back."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.data.readers._columns import NEEDED, filled_columns, find_columns, written_path
from clipreid_kit.data.readers._literals import integers_if_all
from clipreid_kit.data.records import ImageRecord


def read_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[ImageRecord]:
    r"""Read records from a CSV file with a header row.

    Use it for any data set of your own: a table with the columns ``path`` and ``identity`` is enough;
    ``camera``, ``view``, ``caption`` and ``split`` are read if there, every other column goes to ``extra``.
    The file is UTF-8 (a byte order mark is skipped), comma-separated, quoted with ``"``. Empty lines are
    skipped.

    Identities become integers if *every* identity in the file is an integer literal: ``7`` is one, ``0007``
    is not, and one such cell keeps all of them strings, so that nothing is lost. The same holds for cameras.

    Args:
        path: The table.
        root: Folder that relative image paths begin at; ``None`` means the folder of the table. Absolute
            paths stay as they are, and so does what follows ``::`` in ``archive.zip::member``.
        columns: The table's names for the columns that are named otherwise there, such as
            ``{"identity": "pid", "path": "file_name"}``. ``None`` means no renaming.

    Returns:
        One record for each row, in the table's order. An empty optional cell gives ``None``; an empty cell of
        another column is left out of ``extra``. A table with a header and no rows gives an empty list.

    Raises:
        ValueError: If the file is missing, empty, not UTF-8 or not CSV, a needed column is missing, a column
            occurs twice, a row has too few or too many cells, or its path or identity is empty (with the
            row's number, where the header is row 1).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "images.csv")
        ...     _ = table.write_text("file,identity,caption,age\na.jpg,7,a red coat,30\nb.jpg,12,,\n")
        ...     first, second = read_csv(table, root="images", columns={"path": "file"})
        >>> first.path, first.identity, first.caption, first.extra
        ('images/a.jpg', 7, 'a red coat', {'age': '30'})
        >>> second.identity, second.caption, second.extra
        (12, None, {})
    """
    file = Path(path)
    header, rows = _read_rows(file)
    places = find_columns("read_csv", file, header, columns or {})
    base = file.parent if root is None else Path(root)
    for number, row in rows:
        for name in NEEDED:
            if not row[places[name]].strip():
                expected = f"a value in column {header[places[name]]!r} of each row"
                raise fail(
                    "read_csv",
                    expected,
                    f"none in row {number} of {file}",
                    "Fill the cell or drop the row.",
                )
    identities = integers_if_all([row[places["identity"]] for _, row in rows])
    cameras = _cameras([row[places["camera"]] if "camera" in places else "" for _, row in rows])
    extra = [(name, place) for place, name in enumerate(header) if place not in places.values()]
    return [
        ImageRecord(
            path=str(base / row[places["path"]]),
            identity=identity,
            camera=camera,
            view=_optional(row, places, "view"),
            caption=_optional(row, places, "caption"),
            split=_optional(row, places, "split"),
            extra={name: row[place] for name, place in extra if row[place]},
        )
        for (_, row), identity, camera in zip(rows, identities, cameras, strict=True)
    ]


def write_csv(
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    *,
    relative_to: str | os.PathLike[str] | None = None,
) -> None:
    """Write records to a CSV file that :func:`read_csv` reads back.

    Use it to keep a split, to edit records in a spreadsheet, or to turn a folder into a table. The file
    appears whole or not at all: it is written beside its place, then renamed.

    Columns that no record fills are left out, and keys of ``extra`` follow in sorted order. ``None`` is
    written as an empty cell. A table does not tell the string ``"7"`` from the number 7: see
    :func:`read_csv`.

    Args:
        records: What to write; an empty sequence gives a table with a header only.
        path: Where to; the folder has to exist, an existing file is replaced.
        relative_to: Folder that holds all images, to write paths relative to it; pass it as ``root`` when
            reading. ``None`` writes absolute paths.

    Raises:
        ValueError: If an image lies outside ``relative_to``, ``extra`` has a key that is a column's name, or
            the file cannot be written.

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
    target = Path(path)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*NEEDED, *optional, *extra])
    for record in records:
        cells = [written_path("write_csv", record.path, relative_to), record.identity]
        cells += [
            "" if getattr(record, name) is None else getattr(record, name) for name in optional
        ]
        writer.writerow([*cells, *(record.extra.get(key, "") for key in extra)])
    try:
        write_whole(target, text.getvalue().encode("utf-8"))
    except (OSError, UnicodeEncodeError) as error:
        raise fail(
            "write_csv",
            f"to write {target}",
            str(error),
            "Check the folder and the records' texts.",
        ) from error


def _read_rows(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read the header, and each row that is not blank with its number; all rows as wide as the header."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            numbered = list(enumerate(csv.reader(stream, strict=True), start=1))
    except FileNotFoundError as error:
        raise fail(
            "read_csv", "an existing CSV file", f"no file at {file}", "Correct the path."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        remedy = "Save the table as comma-separated UTF-8."
        raise fail(
            "read_csv", f"{file} as a CSV table", f"{type(error).__name__}: {error}", remedy
        ) from error
    rows = [(number, row) for number, row in numbered if row]
    if not rows:
        raise fail(
            "read_csv",
            f"a header row in {file}",
            "an empty file",
            "The header needs path and identity.",
        )
    header = rows[0][1]
    for number, row in rows[1:]:
        if len(row) != len(header):
            got = f"{len(row)} in row {number} of {file}"
            raise fail(
                "read_csv",
                f"{len(header)} cells in each row",
                got,
                'Quote cells that hold commas with ".',
            )
    return header, rows[1:]


def _cameras(cells: list[str]) -> list[int | str | None]:
    filled = iter(integers_if_all([cell for cell in cells if cell]))
    return [next(filled) if cell else None for cell in cells]


def _optional(row: list[str], places: Mapping[str, int], name: str) -> str | None:
    return (row[places[name]] or None) if name in places else None
