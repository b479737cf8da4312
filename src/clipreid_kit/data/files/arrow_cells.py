"""Arrow files, which are mapped into memory, and their cells; needs pyarrow."""

from typing import Any

from clipreid_kit._read_files import MAX_BYTES, UnusableFileError, describe_error, map_file

_MAGIC = b"ARROW1"  # of the file format; without it, the file is a stream of messages
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class ArrowCells:
    """An Arrow file; a cell is read when it is asked for.

    Raises:
        OSError: If the file cannot be opened.
        UnusableFileError: If it is damaged.
    """

    def __init__(self, path: str) -> None:
        self._table = open_arrow(path)

    def cell(self, column: str, row: int) -> object:
        """Return the value of a cell; raise KeyError if there is none."""
        if column not in self._table.column_names or row >= self._table.num_rows:
            raise KeyError(f"{column}/{row}")
        value: object = self._table.column(column)[row].as_py()
        return value


def open_arrow(path: str) -> Any:  # noqa: ANN401 (a table of pyarrow, which has no types)
    """Open an Arrow file, as Hugging Face saves data sets, or in Arrow's file format.

    The table refers to the mapped file, so that large columns take no memory.

    Raises:
        OSError: If the file cannot be opened.
        UnusableFileError: If it is damaged or cut off, or unpacks to too much.
    """
    import pyarrow as pa

    content = memoryview(map_file(path))
    is_stream = content[: len(_MAGIC)] != _MAGIC
    # Between two messages, a stream that is cut off looks like a whole one.
    if is_stream and content[-len(_END_OF_STREAM) :] != _END_OF_STREAM:
        raise UnusableFileError("it is no Arrow file, or its end is missing")

    try:
        source = pa.py_buffer(content)
        if is_stream:
            stream = pa.ipc.open_stream(source)
            return pa.Table.from_batches(_checked(stream), stream.schema)

        file = pa.ipc.open_file(source)
        batches = map(file.get_batch, range(file.num_record_batches))
        return pa.Table.from_batches(_checked(batches), file.schema)
    except UnusableFileError:
        raise
    # pyarrow raises errors of several kinds for damaged files.
    except Exception as error:
        raise UnusableFileError(describe_error(error)) from error


def _checked(batches: Any) -> list[Any]:  # noqa: ANN401 (pyarrow's)
    """Read all batches; raise an error if they are damaged, or compressed and too large."""
    import pyarrow as pa

    # What is compressed in the file counts here, and what is mapped does not.
    before = pa.total_allocated_bytes()
    read = []
    for batch in batches:
        if pa.total_allocated_bytes() - before > MAX_BYTES:
            raise UnusableFileError(f"it unpacks to more than the limit of {MAX_BYTES} bytes")

        # Wrong offsets would read memory that is not the file's.
        batch.validate(full=True)
        read.append(batch)
    return read
