"""The marks of a page: in its file, and at hand for each query."""

import threading
from pathlib import Path

from clipreid_kit._read_files import exists
from clipreid_kit.retrieval.marks import Mark, append_mark, read_marks


class MarkBook:
    """Marks by query, beside the file that keeps them.

    Any thread may use it.

    Args:
        file: The file; it is created by the first mark.

    Raises:
        ValueError: If the file is there, and not one of marks.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._marks: dict[tuple[object, ...], bool] = {}
        for mark in read_marks(file) if exists(file) else ():
            self._remember(mark)

    def __len__(self) -> int:
        """Return the number of marks that hold."""
        return len(self._marks)

    def add(self, mark: Mark) -> None:
        """Write a mark; when this returns, it is on the disk.

        Raises:
            ValueError: If the file cannot be written.
        """
        with self._lock:
            append_mark(self.file, mark)
            self._remember(mark)

    def is_match(self, mark: Mark) -> bool | None:
        """Return what was said of the hit of a mark for its query; ``None`` if nothing."""
        return self._marks.get(mark.pair)

    def _remember(self, mark: Mark) -> None:
        if mark.is_match is None:
            self._marks.pop(mark.pair, None)
        else:
            self._marks[mark.pair] = mark.is_match
