"""Cell arrays of matrices in a MATLAB 5 file, read without trust in its content."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Cells = Matrix | list[Any]  # of the same, nested

_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_CELL = 1  # class of an array
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_MOST_BYTES = 1 << 28  # of an element that is decompressed
_DEEPEST = 8


class BadMatFileError(ValueError):
    """A file is not a MATLAB 5 file, or is damaged."""


def read_mat_cells(content: bytes, name: str) -> Cells:
    """Return a cell array, or a matrix, of a MATLAB 5 file (``-v5`` to ``-v7``).

    Args:
        content: Bytes of the file.
        name: Name of the variable.

    Returns:
        Lists of matrices, and of lists, in the order of the columns.

    Raises:
        BadMatFileError: If the file has another format, is damaged, or has no such variable.
    """
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise BadMatFileError("it has no header of a MATLAB 5 file")
    order = "<" if content[126:128] == b"IM" else ">"

    try:
        for element in _elements(content[_HEADER:], order):
            kind, payload = element
            if kind == _COMPRESSED:
                kind, payload = next(_elements(_inflate(payload), order))
            if kind == _MATRIX:
                found, value = _array(payload, order, _DEEPEST)
                if found == name:
                    return value
    except (struct.error, zlib.error, StopIteration, UnicodeDecodeError) as error:
        raise BadMatFileError("it is damaged") from error
    raise BadMatFileError(f"it has no variable {name}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the bytes of each element."""
    position = 0
    while position < len(data):
        (tag,) = struct.unpack_from(f"{order}I", data, position)
        if tag >> 16:  # a small element, in 8 bytes with its tag
            kind, size = tag & 0xFFFF, tag >> 16
            yield kind, data[position + 4 : position + 4 + min(size, 4)]
            position += 8
            continue

        (size,) = struct.unpack_from(f"{order}I", data, position + 4)
        begin = position + 8
        if begin + size > len(data):
            raise BadMatFileError("it ends too early")
        yield tag, data[begin : begin + size]
        position = begin + size
        if tag != _COMPRESSED:
            position += -size % 8


def _inflate(data: bytes) -> bytes:
    """Decompress an element, up to a limit."""
    unpacker = zlib.decompressobj()
    inflated = unpacker.decompress(data, _MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise BadMatFileError("an element is too large")
    return inflated


def _array(data: bytes, order: str, depth: int) -> tuple[str, Cells]:
    """Return the name and the value of an array."""
    if not data:
        return "", np.zeros((0, 0))
    if depth == 0:
        raise BadMatFileError("its cells are nested too deeply")

    parts = _elements(data, order)
    (flags,) = struct.unpack_from(f"{order}I", next(parts)[1])
    shape = np.frombuffer(_whole(next(parts)[1], 4), dtype=f"{order}i4").tolist()
    name = next(parts)[1].decode("ascii")
    count = 1
    for size in shape:
        count *= size
    if len(shape) < 2 or min(shape) < 0 or count > _MOST_BYTES:
        raise BadMatFileError("an array has an impossible shape")

    if flags & 0xFF == _CELL:
        cells = [_array(payload, order, depth - 1)[1] for _, payload in parts]
        if len(cells) != count:
            raise BadMatFileError("a cell array lacks cells")
        return name, cells

    kind, payload = next(parts)
    if kind not in _NUMBERS:
        raise BadMatFileError("an array holds no numbers")
    dtype = np.dtype(f"{order}{_NUMBERS[kind]}")
    values = np.frombuffer(_whole(payload, dtype.itemsize), dtype=dtype)
    if len(values) != count:
        raise BadMatFileError("a matrix lacks numbers")
    return name, values.astype(np.float64).reshape(shape, order="F")


def _whole(payload: bytes, size: int) -> bytes:
    """The bytes of whole numbers of a size."""
    return payload[: len(payload) // size * size]
