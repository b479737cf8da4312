"""Files that are whole or not there."""

import json
import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: the old one stays until the new one is on the disk."""
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
    """Write a JSON file (or lines, for a list) in one step."""
    if isinstance(content, list):
        text = "".join(json.dumps(row) + "\n" for row in content)
    else:
        text = json.dumps(content, indent=2) + "\n"
    write_whole(path, text.encode())
