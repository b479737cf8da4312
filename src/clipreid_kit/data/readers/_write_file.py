"""Parts of every writer of tables: paths as they are written, and the file itself."""

import os
from collections.abc import Sequence
from pathlib import Path

from clipreid_kit._files import reason_of, write_whole
from clipreid_kit.data.files.write_target import check_target
from clipreid_kit.data.records import ImageRecord


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


def write_text_file(owner: str, target: Path, text: str, records: Sequence[ImageRecord]) -> None:
    """Write a UTF-8 table of records, whole or not at all."""
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise unwritable(owner, target, error) from error
    write_table_file(owner, target, content, records)


def write_table_file(
    owner: str, target: Path, content: bytes, records: Sequence[ImageRecord]
) -> None:
    """Write a table of records, whole or not at all, and over none of their images."""
    check_target(owner, target, (record.path for record in records))
    try:
        write_whole(target, content)
    except (OSError, ValueError) as error:
        raise unwritable(owner, target, error) from error


def unwritable(owner: str, target: Path, error: Exception) -> ValueError:
    """Build the error for a file that cannot be written."""
    if isinstance(error, OSError):
        return ValueError(f"{owner}: cannot write {target}: {reason_of(error)}.")
    return ValueError(f"{owner}: cannot write {target}: {error}. Check the texts of the records.")
