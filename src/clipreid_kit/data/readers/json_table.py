"""Records from JSON (a list of objects) and JSON Lines (an object a line), and back."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipreid_kit._checks import fail
from clipreid_kit._files import write_whole
from clipreid_kit.data.readers._columns import OPTIONAL, filled_columns, typed_records, written_path
from clipreid_kit.data.records import ImageRecord


def read_json_rows(owner: str, file: Path) -> list[dict[str, object]]:
    """Read the objects of a ``.json`` file (one list) or of a ``.jsonl`` file (one a line; blank lines are skipped)."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = _lines(text, file) if file.suffix.lower() == ".jsonl" else _parse(text, str(file))
    except FileNotFoundError as error:
        raise fail(owner, "an existing table", f"no file at {file}", "Correct the path.") from error
    except (
        OSError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        RecursionError,
        _NotJsonError,
    ) as error:
        remedy = "JSON is UTF-8: one list of objects (.json), or an object a line (.jsonl)."
        raise fail(
            owner, f"{file} as JSON", f"{type(error).__name__.strip('_')}: {error}", remedy
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        found = (
            f"an object with {', '.join(map(repr, list(rows)[:5]))}"
            if isinstance(rows, dict)
            else "something else"
        )
        remedy = "For {'splits': {...}} use read_annotations." if isinstance(rows, dict) else ""
        raise fail(owner, f"a list of objects, one for each image, in {file}", found, remedy)
    return rows


def json_records(
    owner: str,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
) -> list[ImageRecord]:
    """Read records from a JSON or JSON Lines file."""
    file = Path(path)
    rows = read_json_rows(owner, file)
    return typed_records(
        owner, file, rows, columns or {}, file.parent if root is None else Path(root)
    )


def write_json_records(
    owner: str,
    records: Sequence[ImageRecord],
    path: str | os.PathLike[str],
    relative_to: str | os.PathLike[str] | None,
) -> None:
    """Write records as JSON or JSON Lines; fields that are empty are left out."""
    filled_columns(owner, records)
    target = Path(path)
    rows = [
        {
            "path": written_path(owner, record.path, relative_to),
            "identity": record.identity,
            **{name: value for name in OPTIONAL if (value := getattr(record, name)) is not None},
            **record.extra,
        }
        for record in records
    ]
    if target.suffix.lower() == ".jsonl":
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    else:
        text = f"{json.dumps(rows, ensure_ascii=False, indent=2)}\n"
    try:
        write_whole(target, text.encode("utf-8"))
    except (OSError, UnicodeEncodeError) as error:
        raise fail(
            owner, f"to write {target}", str(error), "Check the folder and the records' texts."
        ) from error


class _NotJsonError(ValueError):
    pass


def _lines(text: str, file: Path) -> object:
    # Not splitlines: that would cut at U+2028, which may stand inside a JSON string.
    return [
        _parse(line, f"line {n} of {file}")
        for n, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def _parse(text: str, where: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise _NotJsonError(f"{where}: {error}") from error


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{', '.join(map(repr, twice))} more than once in an object")
    return row
