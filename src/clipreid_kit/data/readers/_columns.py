"""Columns of a table and fields of a record, whatever kind of file the table is kept in."""

import difflib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit.data.files.file_tree import is_image
from clipreid_kit.data.records import ImageRecord

NEEDED = ("path", "identity")
OPTIONAL = ("camera", "view", "caption", "split")


def find_columns(
    owner: str, file: Path, header: Sequence[str], columns: Mapping[str, str]
) -> dict[str, int]:
    """Find the place of each of our columns in the table."""
    known = (*NEEDED, *OPTIONAL)
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        got = f"{', '.join(map(repr, twice))} more than once in {file}"
        raise fail(owner, "column names that differ", got, "Rename or remove the others.")
    unknown = [name for name in columns if name not in known]
    if unknown:
        remedy = "Keys are our names, values the table's; other columns go to extra by themselves."
        raise fail(
            owner,
            f"keys of columns among {', '.join(known)}",
            ", ".join(map(repr, unknown)),
            remedy,
        )
    places = {}
    for name in known:
        wanted = columns.get(name, name)
        if wanted in header:
            places[name] = header.index(wanted)
        elif name in NEEDED or name in columns:
            spelled = {found.strip().lower(): found for found in header}
            nearest = difflib.get_close_matches(wanted.lower(), spelled, n=1)
            guess = repr(spelled[nearest[0]]) if nearest else "<its name in the table>"
            remedy = f"If it is named otherwise, pass columns={{{name!r}: {guess}}}."
            if len(header) == 1 and (
                other := next((mark for mark in ";\t|" if mark in header[0]), "")
            ):
                remedy = f"Its cells seem to be separated by {other!r}: save it with commas."
            elif any(is_image(found) for found in header):
                remedy = "Its first row has to name the columns."
            got = f"columns {', '.join(map(repr, header))}"
            raise fail(owner, f"a column {wanted!r} in {file}", got, remedy)
    if len(set(places.values())) < len(places):
        raise fail(
            owner, "a table column for each key of columns", f"one used twice: {dict(columns)}"
        )
    return places


def typed_records(
    owner: str,
    file: Path,
    rows: Sequence[Mapping[str, object]],
    columns: Mapping[str, str],
    base: Path,
) -> list[ImageRecord]:
    """Build records from rows whose values have types: those of a JSON or Parquet file."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    if not rows:
        return []
    places = find_columns(owner, file, header, columns)
    ours = {name: header[place] for name, place in places.items()}
    records = []
    for number, row in enumerate(rows, start=1):
        value = {name: row.get(theirs) for name, theirs in ours.items()}
        for name in NEEDED:
            if _empty(value[name]):
                expected = f"a value of {ours[name]!r} in each record"
                raise fail(
                    owner,
                    expected,
                    f"none in record {number} of {file}",
                    "Fill it or drop the record.",
                )
        records.append(
            ImageRecord(
                path=str(base / str(value["path"])),
                identity=_name(owner, "identity", value["identity"], number, file),
                camera=None
                if _empty(value.get("camera"))
                else _name(owner, "camera", value["camera"], number, file),
                view=_text(value.get("view")),
                caption=_text(value.get("caption")),
                split=_text(value.get("split")),
                extra={
                    name: text
                    for name in row
                    if name not in ours.values() and (text := _text(row[name])) is not None
                },
            )
        )
    return records


def filled_columns(owner: str, records: Sequence[ImageRecord]) -> tuple[list[str], list[str]]:
    """Name the optional columns that a record fills, and the keys of ``extra``."""
    optional = [
        name for name in OPTIONAL if any(getattr(record, name) is not None for record in records)
    ]
    extra = sorted({key for record in records for key in record.extra})
    clash = sorted(set(extra) & {*NEEDED, *OPTIONAL})
    if clash:
        raise fail(
            owner,
            "keys of extra that are not columns already",
            ", ".join(clash),
            "Rename those keys.",
        )
    return optional, extra


def written_path(owner: str, path: str, relative_to: str | os.PathLike[str] | None) -> str:
    """Give a record's path as it is written: absolute, or relative to a folder and with ``/``."""
    absolute = Path(path).absolute()
    if relative_to is None:
        return str(absolute)
    try:
        return absolute.relative_to(Path(relative_to).absolute()).as_posix()
    except ValueError as error:
        remedy = "Pass a folder that holds all images, or None to write absolute paths."
        raise fail(owner, f"every image below {relative_to}", path, remedy) from error


def _empty(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # NaN


def _name(owner: str, what: str, value: object, number: int, file: Path) -> int | str:
    if (
        isinstance(value, float) and value.is_integer()
    ):  # whole numbers become floats where cells of a column are empty
        return int(value)
    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    got = f"{value!r} in record {number} of {file}"
    raise fail(owner, f"{what} as a whole number or text", got)


def _text(value: object) -> str | None:
    if value is None or value == "" or value != value:  # NaN
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
