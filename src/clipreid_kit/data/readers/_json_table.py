"""Records from JSON (a list of objects) and JSON Lines (an object a line), and back."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit import _read_files
from clipreid_kit._read_files import InvalidJsonError, describe_error, parse_json
from clipreid_kit.data.readers._table_columns import OPTIONAL, filled_columns
from clipreid_kit.data.readers._typed_rows import typed_records
from clipreid_kit.data.readers._write_file import write_text_file, written_path
from clipreid_kit.data.records import ImageRecord


def read_json_records(
    owner: str,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from a JSON or JSON Lines file."""
    file = Path(path)
    rows = _read_rows(owner, file)
    return typed_records(
        owner, file, rows, columns or {}, file.parent if root is None else Path(root)
    )


def write_json_records(
    owner: str,
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    relative_to: str | os.PathLike[str] | None,
) -> None:
    """Write records as JSON or JSON Lines; empty fields are left out."""
    filled_columns(owner, records)  # raises ValueError if a key of extra is the name of a column

    rows = []
    for record in records:
        row: dict[str, object] = {
            "path": written_path(owner, record.path, relative_to),
            "identity": record.identity,
        }
        for name in OPTIONAL:
            value = getattr(record, name)
            if value is not None:
                row[name] = value
        rows.append({**row, **record.extra})

    target = Path(path)
    if target.suffix.lower() == ".jsonl":
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    else:
        text = f"{json.dumps(rows, ensure_ascii=False, indent=2)}\n"
    write_text_file(owner, target, text, records)


def _read_rows(owner: str, file: Path) -> list[dict[str, object]]:
    """Read the objects of a ``.json`` file (one list) or of a ``.jsonl`` file (one a line)."""
    try:
        text = _read_files.read_text(file)
        if file.suffix.lower() == ".jsonl":
            rows: object = _parse_lines(text)
        else:
            rows = parse_json(text)
    except FileNotFoundError as error:
        raise ValueError(f"{owner}: there is no file at {file}. Correct the path.") from error
    except InvalidJsonError as error:
        raise ValueError(
            f"{owner}: {file} is not valid JSON: {error}. Expected one list of objects (.json), "
            "or an object a line (.jsonl)."
        ) from error
    except (OSError, ValueError) as error:
        remedy = "JSON files are UTF-8."
        raise ValueError(
            f"{owner}: cannot read {file}: {describe_error(error)}. {remedy}"
        ) from error

    if isinstance(rows, dict):
        keys = ", ".join(map(repr, list(rows)[:5]))
        raise ValueError(
            f"{owner}: {file} holds one object with {keys} instead of a list of objects, one for "
            "each image. For {'splits': {...}} use read_annotations."
        )
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{owner}: {file} has to hold a list of objects, one for each image.")
    return rows


def _parse_lines(text: str) -> list[object]:
    """Parse an object from each line that is not blank."""
    objects = []
    # Not splitlines: that would also split at U+2028, which JSON strings may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            objects.append(parse_json(line))
        except InvalidJsonError as error:
            raise InvalidJsonError(f"line {number}: {error}") from error
    return objects
