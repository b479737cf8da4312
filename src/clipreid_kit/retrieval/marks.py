"""Marks of right and wrong hits, kept in a file, and usable as labels."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipreid_kit._files import append_line
from clipreid_kit._read_files import InvalidJsonError, describe_error, parse_json, read_text
from clipreid_kit.data.records import ImageRecord


@dataclass(frozen=True, slots=True)
class Mark:
    """A hit that somebody called right or wrong for a query.

    The query is one of three: an image of the index, an image of elsewhere, or a text.

    Attributes:
        path: Path of the hit's image; ``None`` in an index without records.
        key: Key of the hit.
        is_match: Whether it shows what the query shows; ``None`` withdraws an earlier mark.
        query_path: Path of the query, an image of the index.
        query_sha256: SHA-256 of the file of the query, an image of elsewhere, which is not kept.
        query_text: The query, a text.
        identity: Identity of the hit, as the index has it.
        query_identity: Identity of the query, as the index has it.
        index: Name of the index.
        fingerprint: Names the encoder of the index; ``None`` if unknown.
        time: When it was marked, in UTC, as in ``2026-11-29T12:00:00+00:00``.
    """

    path: str | None
    key: int
    is_match: bool | None
    query_path: str | None = None
    query_sha256: str | None = None
    query_text: str | None = None
    identity: int | str | None = None
    query_identity: int | str | None = None
    index: str | None = None
    fingerprint: str | None = None
    time: str | None = None

    @property
    def pair(self) -> tuple[object, ...]:
        """The query and the hit that the mark is about."""
        hit = self.key if self.path is None else self.path
        return (self.query_path, self.query_sha256, self.query_text, hit)


def append_mark(file: str | os.PathLike[str], mark: Mark) -> None:
    """Append a mark to a file; when this returns, it is on the disk.

    Raises:
        ValueError: If the file cannot be written.
    """
    # ASCII: a line that a kill cuts off anywhere is still text
    line = json.dumps(asdict(mark))
    try:
        append_line(Path(file), line.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"append_mark: cannot write to {file}: {reason}.") from error


def read_marks(file: str | os.PathLike[str]) -> list[Mark]:
    """Read the marks of the search page, as they are now.

    Of several marks of one hit for one query, the last counts; withdrawn ones are left out.

    Args:
        file: A file of JSON lines, as ``clipreid serve`` writes it. A last line that a kill cut off
            is left out: its mark was never confirmed.

    Returns:
        The marks, in the order in which their pairs were first marked; empty for an empty file.

    Raises:
        ValueError: If the file cannot be read, or a line is not a mark.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for is_match in (True, False):
        ...         append_mark(f"{folder}/m.jsonl", Mark("b.jpg", 1, is_match, "a.jpg"))
        ...     marks = read_marks(f"{folder}/m.jsonl")
        >>> [(mark.query_path, mark.path, mark.is_match) for mark in marks]
        [('a.jpg', 'b.jpg', False)]
    """
    try:
        text = read_text(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"read_marks: cannot read {file}: {describe_error(error)}.") from error

    lines = text.split("\n")
    unfinished = lines.pop()
    if unfinished and _is_json(unfinished):
        lines.append(unfinished)

    latest: dict[tuple[object, ...], Mark] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            mark = _mark_of(file, number, line)
            latest[mark.pair] = mark
    return [mark for mark in latest.values() if mark.is_match is not None]


def records_of_marks(marks: Iterable[Mark]) -> list[ImageRecord]:
    """Return the images that marks say something about, with the identities that follow.

    Images that were marked as right for each other, directly or by way of others, are one identity.
    Queries that are texts, or images of elsewhere, have no path and no part in it.

    Args:
        marks: Marks, as :func:`read_marks` returns them.

    Returns:
        A record for each image, with the identity ``marked-0``, ``marked-1``, ...: for
        :func:`calibrate`, for training, and for tables. Empty without marks.

    Raises:
        ValueError: If two images are marked as wrong for each other, but follow to be one identity.

    Example:
        >>> marks = [Mark("b.jpg", 1, True, "a.jpg"), Mark("c.jpg", 2, False, "a.jpg")]
        >>> [(record.path, record.identity) for record in records_of_marks(marks)]
        [('a.jpg', 'marked-0'), ('b.jpg', 'marked-0'), ('c.jpg', 'marked-1')]
    """
    pairs = [
        (mark.query_path, mark.path, mark.is_match)
        for mark in marks
        if mark.query_path is not None and mark.path is not None
    ]
    root_of: dict[str, str] = {}
    for query, hit, is_match in pairs:
        first, second = _root(root_of, query), _root(root_of, hit)
        if is_match and first != second:
            root_of[second] = first

    for query, hit, is_match in pairs:
        if is_match is False and _root(root_of, query) == _root(root_of, hit):
            raise ValueError(
                f"records_of_marks: {query} and {hit} are marked as wrong, but other marks make "
                "them one identity. Correct one of these marks."
            )

    numbers: dict[str, int] = {}
    records = []
    for path in list(root_of):
        number = numbers.setdefault(_root(root_of, path), len(numbers))
        records.append(ImageRecord(path, f"marked-{number}"))
    return records


def _root(root_of: dict[str, str], path: str) -> str:
    """Return the image that represents the identity of an image."""
    root = root_of.setdefault(path, path)
    while root_of[root] != root:
        root = root_of[root]
    root_of[path] = root
    return root


def _is_json(line: str) -> bool:
    try:
        parse_json(line)
    except InvalidJsonError:
        return False
    return True


def _mark_of(file: str | os.PathLike[str], number: int, line: str) -> Mark:
    """Read a line, which may have fields of later versions."""
    try:
        fields: Any = parse_json(line)
    except InvalidJsonError as error:
        raise ValueError(
            f"read_marks: line {number} of {file} is not JSON: {error}. Correct or remove the line."
        ) from error

    problem = f"read_marks: line {number} of {file} is not a mark. Correct or remove the line."
    try:
        known = {name: fields[name] for name in Mark.__dataclass_fields__ if name in fields}
        mark = Mark(**known)
    except TypeError:
        raise ValueError(problem) from None

    if mark.is_match not in (True, False, None) or not isinstance(mark.key, int):
        raise ValueError(problem)
    return mark
