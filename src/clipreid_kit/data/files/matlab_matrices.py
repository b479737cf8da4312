"""Matrices and cells of a MATLAB file of level 5, as ``save`` writes it since 1996."""

import struct
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clipreid_kit._read_files import UnusableFileError, inflate

IntArray = npt.NDArray[np.int64]
Cells = IntArray | list[Any]  # a matrix, or cells of the same, nested
Order = Literal["<", ">"]  # of bytes

_HEADER = 128
_MATRIX = 14
_COMPRESSED = 15
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
}  # types of data by their number in the format
_CELLS = 1  # class of an array
_NUMERIC_CLASSES = range(6, 16)  # double to uint64; not structures, texts or sparse ones
_IS_COMPLEX = 0x0800
_EXACT = 2.0**53  # from here on not every whole number is a float
_DEEPEST = 8  # cells within cells


def parse_matrices(content: bytes) -> dict[str, IntArray]:
    """Read every matrix of whole numbers from the content of a file.

    Args:
        content: The bytes of the file.

    Returns:
        Matrices (rows, columns) by name, in the order of the file. Variables of other kinds, such
        as cells, are left out.

    Raises:
        UnusableFileError: If the file is no MATLAB file of level 5, is damaged, or a matrix holds
            another number than a whole one.
    """
    found = _variables(content)
    return {name: value for name, value in found if isinstance(value, np.ndarray)}


def parse_cells(content: bytes, name: str) -> Cells:
    """Read one variable from the content of a file: a matrix of whole numbers, or nested cells.

    Args:
        content: The bytes of the file.
        name: Name of the variable.

    Returns:
        The matrix (rows, columns), or a list of the cells, in the order of the columns.

    Raises:
        UnusableFileError: As :func:`parse_matrices`; also if the file has no such variable, or it
            is of another kind.
    """
    for found, value in _variables(content):
        if found == name and value is not None:
            return value
    raise UnusableFileError(f"it has no matrix or cells named {name!r}")


def _variables(content: bytes) -> Iterator[tuple[str, Cells | None]]:
    """Yield the name and the value of each variable; ``None`` for one of another kind."""
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise UnusableFileError("it is no MATLAB file of level 5 (save it with -v6 or -v7)")

    order: Order = "<" if content[126:128] == b"IM" else ">"
    for element in _elements(content[_HEADER:], order):
        is_packed = element[0] == _COMPRESSED
        kind, data = _only_element(inflate(element[1]), order) if is_packed else element
        if kind != _MATRIX:
            raise UnusableFileError(f"it has an element of type {kind} where a matrix belongs")
        yield _array(data, order, _DEEPEST)


def _elements(content: bytes, order: Order) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the data of each element."""
    place = 0
    while place < len(content):
        if place + 8 > len(content):
            raise UnusableFileError("it ends inside an element")
        kind, size = struct.unpack_from(f"{order}II", content, place)

        begin = place + 8
        if kind >> 16:  # size and type in one word, and the data in the next
            kind, size, begin = kind & 0xFFFF, kind >> 16, place + 4
            place += 8
            if size > 4:
                raise UnusableFileError("it has a short element that is too long")
        else:
            padding = 0 if kind == _COMPRESSED else -size % 8
            place = begin + size + padding
        if begin + size > len(content):
            raise UnusableFileError("it ends inside an element")
        yield kind, content[begin : begin + size]


def _only_element(content: bytes, order: Order) -> tuple[int, bytes]:
    """Return the one element of a packed part."""
    found = next(_elements(content, order), None)
    if found is None:
        raise UnusableFileError("it has an empty packed part")
    return found


def _array(data: bytes, order: Order, depth: int) -> tuple[str, Cells | None]:
    """Return the name and the value of an array; ``None`` for one of another kind."""
    if depth == 0:
        raise UnusableFileError("its cells are nested too deeply")

    parts = list(_elements(data, order))
    if len(parts) < 3 or len(parts[0][1]) < 4:
        raise UnusableFileError("it has a matrix without name or size")
    name = parts[2][1].decode("ascii", "replace")
    shape = [int(size) for size in _numbers(parts[1], order)]

    flags = struct.unpack_from(f"{order}I", parts[0][1])[0]
    if flags & 0xFF == _CELLS:
        empty = np.zeros((0, 0), dtype=np.int64)
        cells = [_array(cell, order, depth - 1)[1] if cell else empty for _, cell in parts[3:]]
        _check_shape(shape, len(cells))
        return name, cells
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _IS_COMPLEX:
        return name, None

    values = _numbers(parts[3], order) if len(parts) > 3 else np.zeros(0)
    _check_shape(shape, len(values))
    return name, _whole(name, values).reshape(shape, order="F")


def _check_shape(shape: list[int], count: int) -> None:
    """Require two sizes that hold as many numbers or cells."""
    if len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] != count:
        raise UnusableFileError(f"it has a matrix of size {shape} with {count} numbers")


def _numbers(part: tuple[int, bytes], order: Order) -> npt.NDArray[np.generic]:
    """Return the numbers of an element."""
    kind, data = part
    if kind not in _NUMBERS:
        raise UnusableFileError(f"it has numbers of the unknown type {kind}")

    dtype = np.dtype(_NUMBERS[kind]).newbyteorder(order)
    if len(data) % dtype.itemsize:
        raise UnusableFileError("it has a part of a number")
    return np.frombuffer(data, dtype=dtype)


def _whole(name: str, values: npt.NDArray[np.generic]) -> IntArray:
    """Return values as integers."""
    numbers = values.astype(np.float64)
    is_whole = (np.abs(numbers) < _EXACT) & (numbers == np.floor(numbers))
    if not is_whole.all():
        first = numbers[~is_whole][0]
        raise UnusableFileError(f"its matrix {name!r} holds {first}, which is no whole number")
    return numbers.astype(np.int64)
