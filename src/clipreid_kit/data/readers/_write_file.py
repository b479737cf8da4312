"""Parts of every writer of tables: paths as they are written, and the file itself."""

import os
from pathlib import Path

from clipreid_kit._files import write_whole


def written_path(owner: str, path: str, relative_to: str | os.PathLike[str] | None) -> str:
    """Return a record's path as it is written: absolute, or relative to a folder and with ``/``."""
    absolute = Path(path).absolute()
    if relative_to is None:
        return str(absolute)

    try:
        return absolute.relative_to(Path(relative_to).absolute()).as_posix()
    except ValueError as error:
        raise ValueError(
            f"{owner}: {path} is not below {relative_to}. Pass a folder that holds all images as "
            "relative_to, or None to write absolute paths."
        ) from error


def write_text_file(owner: str, target: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    try:
        write_whole(target, text.encode("utf-8"))
    except (OSError, UnicodeEncodeError) as error:
        raise unwritable(owner, target, error) from error


def unwritable(owner: str, target: Path, error: Exception) -> ValueError:
    """Build the error for a file that cannot be written."""
    return ValueError(
        f"{owner}: cannot write {target}: {error}. Check the folder and the records' texts."
    )
