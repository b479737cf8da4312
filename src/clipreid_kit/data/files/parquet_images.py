"""Images in the cells of Parquet files, as data sets of Hugging Face keep them; needs pyarrow."""

import os
import weakref
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import Any

from clipreid_kit._read_files import (
    MAX_BYTES,
    UnusableFileError,
    describe_error,
    identity_of_file,
    open_file,
)


def read_cell(file: str, name: str) -> bytes:
    """Read the image of a cell, which is called ``column/row``.

    Raises:
        OSError: If the file cannot be opened.
        KeyError: If there is no such cell.
        UnusableFileError: If the file is damaged, or the cell holds no image.
        ImportError: If pyarrow is not installed.
    """
    column, slash, row = name.rpartition("/")
    if not slash or not row.isdecimal():
        raise KeyError(name)
    return _open(file, os.getpid(), identity_of_file(file)).cell(column, int(row))


@lru_cache(maxsize=16)
def _open(file: str, process: int, identity: tuple[int, ...]) -> "_Cells":  # noqa: ARG001  cache key
    """Open a file once in each process, and again if it has changed since."""
    return _Cells(file)


class _Cells:
    """An open Parquet file, with the images of the rows that were read last."""

    def __init__(self, path: str) -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ImportError(
                "load_image needs pyarrow for images in Parquet files. Install it with: pip "
                "install clipreid_kit[parquet]"
            ) from error

        stream = open_file(path)
        weakref.finalize(self, stream.close)
        try:
            self._file = parquet.ParquetFile(stream)
        # pyarrow raises errors of several kinds for damaged files.
        except Exception as error:
            raise UnusableFileError(describe_error(error)) from error

        metadata = self._file.metadata
        counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self._ends = list(accumulate(counts))
        self._group: tuple[str, int] | None = None
        self._values: Any = None

    def cell(self, column: str, row: int) -> bytes:
        """Return the bytes of a cell."""
        if column not in self._file.schema_arrow.names or row >= (self._ends or [0])[-1]:
            raise KeyError(f"{column}/{row}")

        group = bisect_right(self._ends, row)
        if self._group != (column, group):
            self._values = self._read(column, group)
            self._group = (column, group)

        start = self._ends[group - 1] if group else 0
        value = self._values[row - start].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise UnusableFileError("the cell holds no bytes of an image")
        return content

    def _read(self, column: str, group: int) -> Any:  # noqa: ANN401 (pyarrow's, without types)
        """Read a column of a group of rows."""
        size = self._file.metadata.row_group(group).total_byte_size
        if size > MAX_BYTES:
            raise UnusableFileError(
                f"a group of its rows has {size} bytes; the limit is {MAX_BYTES}"
            )
        try:
            return self._file.read_row_group(group, columns=[column]).column(column)
        except Exception as error:
            raise UnusableFileError(describe_error(error)) from error
