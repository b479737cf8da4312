"""Images in the cells of Parquet and Arrow files, as data sets of Hugging Face keep them."""

import os
from functools import lru_cache

from clipreid_kit._read_files import UnusableFileError, identity_of_file
from clipreid_kit.data.files.arrow_cells import ArrowCells
from clipreid_kit.data.files.parquet_cells import ParquetCells

SUFFIXES = (".parquet", ".arrow")


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

    value = _open(file, os.getpid(), identity_of_file(file)).cell(column, int(row))
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise UnusableFileError("the cell holds no bytes of an image")
    return content


@lru_cache(maxsize=16)
def _open(file: str, process: int, identity: tuple[int, ...]) -> ArrowCells | ParquetCells:  # noqa: ARG001  cache key
    """Open a file once in each process, and again if it has changed since."""
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "load_image needs pyarrow for images in Parquet and Arrow files. Install it with: pip "
            "install clipreid_kit[parquet]"
        ) from error
    return ArrowCells(file) if file.lower().endswith(".arrow") else ParquetCells(file)
