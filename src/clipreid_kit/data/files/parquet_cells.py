"""Cells of an open Parquet file; needs pyarrow."""

import weakref
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from clipreid_kit._read_files import MAX_BYTES, UnusableFileError, describe_error, open_file


class ParquetCells:
    """An open Parquet file, with the column of the group of rows that was read last.

    Raises:
        OSError: If the file cannot be opened.
        UnusableFileError: If it is damaged.
    """

    def __init__(self, path: str) -> None:
        from pyarrow import parquet

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

    def cell(self, column: str, row: int) -> object:
        """Return the value of a cell; raise KeyError if there is none."""
        if column not in self._file.schema_arrow.names or row >= (self._ends or [0])[-1]:
            raise KeyError(f"{column}/{row}")

        group = bisect_right(self._ends, row)
        if self._group != (column, group):
            self._values = self._read(column, group)
            self._group = (column, group)

        start = self._ends[group - 1] if group else 0
        value: object = self._values[row - start].as_py()
        return value

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
