"""Files that are written again and again, but never over those of others."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from clipreid_kit._files import write_whole
from clipreid_kit._read_files import exists, read_bytes
from clipreid_kit.reports.json_files import read_object, write_json

WRITTEN_FILE = ".written.json"
"""Digests of what was written into a folder, by name."""


def write_own_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, and replace only those that were written here, unchanged.

    Args:
        folder: The folder; created if necessary.
        contents: The content of each file, by its name with ``/``.

    Raises:
        ValueError: If a file of such a name is someone else's, or was changed; nothing is written
            then.
        OSError: If a file cannot be written.
    """
    record = folder / WRITTEN_FILE
    written = read_object(record) if exists(record) else {}

    foreign = []
    for name, content in contents.items():
        path = folder / name
        if exists(path) and _digest(read_bytes(path)) not in (written.get(name), _digest(content)):
            foreign.append(name)
    if foreign:
        more = ", ..." if len(foreign) > 3 else ""
        raise ValueError(
            f"{folder}: it holds files that were not written here, or were changed since: "
            f"{', '.join(foreign[:3])}{more}. Move them away, or change --out."
        )

    # Before the files, so that those of a run that is killed are known as our own.
    folder.mkdir(parents=True, exist_ok=True)
    digests = {name: _digest(content) for name, content in contents.items()}
    write_json(record, {**written, **digests})
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, flush=False)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
