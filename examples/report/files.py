"""Files that a crash leaves whole: the old content or the new, never a part."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
