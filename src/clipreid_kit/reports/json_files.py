"""JSON files of a run, written so that a crash leaves the old content or the new, never a part."""

import json
from pathlib import Path
from typing import Any

from clipreid_kit._files import write_whole
from clipreid_kit._read_files import parse_json, read_bytes, read_json


def write_json(path: Path, content: object) -> None:
    """Write JSON in one step; a list becomes JSON Lines, one item a line."""
    if isinstance(content, list):
        text = "".join(json.dumps(row) + "\n" for row in content)
    else:
        text = json.dumps(content, indent=2) + "\n"

    write_whole(path, text.encode())


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file, such as ``recipe.json`` of a run.

    Raises:
        ValueError: If the file is missing, or is damaged; the message names it.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: the file of the run is missing. Restore it.") from None
    except ValueError as error:
        raise ValueError(f"{path}: the file of the run is damaged ({error}). Restore it.") from None

    if not isinstance(content, dict):
        raise ValueError(f"{path}: the file has to hold a JSON object. Restore it.")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSON Lines file; a missing file has none.

    Raises:
        ValueError: If a line is damaged; the message names it.
    """
    if not path.is_file():
        return []

    rows = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        try:
            row = parse_json(line.decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is damaged ({error}).") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} has to hold a JSON object.")
        rows.append(row)
    return rows
