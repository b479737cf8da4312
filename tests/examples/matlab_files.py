"""Files of MATLAB, level 5, made for tests."""

import struct
import zlib

import numpy as np


def matlab_matrix(name, rows, *, packed=True, kind="f8"):
    """An element of a MATLAB file of level 5: a matrix of doubles, or of another type."""
    numbers = {"f8": (6, 9), "u2": (11, 4)}[kind]  # class of the matrix, type of its numbers
    matrix = np.array(rows, dtype=kind, ndmin=2)
    content = b"".join(
        [
            _matlab_element(6, struct.pack("<II", numbers[0], 0)),
            _matlab_element(5, struct.pack("<ii", *matrix.shape)),
            _matlab_element(1, name.encode()),
            _matlab_element(numbers[1], matrix.tobytes(order="F")),
        ]
    )
    element = _matlab_element(14, content)
    if not packed:
        return element
    small = zlib.compress(element)
    return struct.pack("<II", 15, len(small)) + small


def matlab_file(*elements):
    """A MATLAB file of level 5."""
    return (
        b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + b"".join(elements)
    )


def _matlab_element(kind, data):
    if 0 < len(data) <= 4 and kind == 1:  # short names lie in the tag itself
        return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)
