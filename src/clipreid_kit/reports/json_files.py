"""JSON files of a run, written so that a crash leaves the old content or the new, never a part."""

import json
from pathlib import Path
from typing import Any

from clipreid_kit._files import write_whole


def write_json(path: Path, content: object) -> None:
    """Write JSON in one step; a list becomes JSON Lines, one item a line."""
    if isinstance(content, list):
        text = "".join(json.dumps(row) + "\n" for row in content)
    else:
        text = json.dumps(content, indent=2) + "\n"

    write_whole(path, text.encode())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSON Lines file; a missing file has none."""
    if not path.is_file():
        return []

    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
