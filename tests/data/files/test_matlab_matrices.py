import contextlib
import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matlab_files import matlab_file, matlab_matrix

from clipreid_kit._read_files import UnusableFileError
from clipreid_kit.data.files.matlab_matrices import parse_cells, parse_matrices

ROWS = [[1, 16, 1, 1], [17, 95, -1, 2]]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["a", "long_name_of_a_matrix"])
def test_matrices_by_name(packed, name):
    content = matlab_file(
        matlab_matrix(name, ROWS, packed=packed),
        matlab_matrix("row", [3, 700], packed=packed, kind="u2"),
    )
    found = parse_matrices(content)

    assert list(found) == [name, "row"]
    assert found[name].tolist() == ROWS
    assert found["row"].tolist() == [[3, 700]]


@pytest.mark.reference
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u1", "i2", "u2", "i4", "i8"])
def test_files_that_scipy_writes(packed, dtype):
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy writes the files")
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    stream = io.BytesIO()
    variables = {
        "table": values,
        "text": "abc",
        "complex": np.array([1j]),
        "empty": np.zeros((0, 4)),
    }
    scipy_io.savemat(stream, variables, do_compression=packed)

    found = parse_matrices(stream.getvalue())
    assert list(found) == ["table", "empty"]
    assert found["table"].tolist() == values.tolist()
    assert found["empty"].shape == (0, 4)


VALID = matlab_file(matlab_matrix("a", ROWS), matlab_matrix("b", [3], packed=False))


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_an_error(place, value):
    changed = bytearray(VALID)
    changed[place] = value
    try:
        found = parse_matrices(bytes(changed))
    except UnusableFileError:
        return
    assert all(matrix.ndim == 2 for matrix in found.values())


@given(st.integers(0, len(VALID) - 1))
def test_a_file_that_ends_too_soon(length):
    if length == 128 + len(matlab_matrix("a", ROWS)):
        return  # between two matrices
    if length == 128:
        return  # before both
    with pytest.raises(UnusableFileError):
        parse_matrices(VALID[:length])


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([matlab_matrix("a", [1.5])], "its matrix 'a' holds 1.5, which is no whole number"),
        ([matlab_matrix("a", [2.0**53])], "holds 9007199254740992.0"),
        ([matlab_matrix("a", [float("nan")])], "holds nan"),
        ([struct.pack("<II", 9, 0)], "an element of type 9 where a matrix belongs"),
        ([struct.pack("<II", 14, 0)], "a matrix without name or size"),
        ([struct.pack("<II", 15, 3) + b"abc"], "its packed part is damaged"),
    ],
)
def test_what_is_no_table_of_whole_numbers(elements, message):
    with pytest.raises(UnusableFileError, match=message):
        parse_matrices(matlab_file(*elements))


def test_a_packed_part_that_ends_too_soon():
    packed = matlab_matrix("a", ROWS)[8:-4]
    content = matlab_file(struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(UnusableFileError, match="its packed part ends too soon"):
        parse_matrices(content)


def nested_cells(packed):
    """A file of SciPy with two cells of three, of which the first is empty."""
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy writes the files")
    cells = np.empty((2, 1), dtype=object)
    for row in range(2):
        cells[row, 0] = np.empty((3, 1), dtype=object)
        for column in range(3):
            matrix = np.arange(6).reshape(2, 3) + 10 * row + column
            cells[row, 0][column, 0] = matrix if column else np.zeros((0, 0))

    stream = io.BytesIO()
    scipy_io.savemat(stream, {"other": np.ones(3), "cells": cells}, do_compression=packed)
    return stream.getvalue()


@pytest.mark.reference
@pytest.mark.parametrize("packed", [False, True])
def test_cells_that_scipy_writes(packed):
    content = nested_cells(packed)
    found = parse_cells(content, "cells")

    assert [len(inner) for inner in found] == [3, 3]
    assert found[0][0].size == 0
    assert found[1][2].tolist() == [[12, 13, 14], [15, 16, 17]]
    assert parse_cells(content, "other").tolist() == [[1, 1, 1]]
    with pytest.raises(UnusableFileError, match="it has no matrix or cells named 'draws'"):
        parse_cells(content, "draws")


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_cells_are_an_error_or_other_numbers(packed):
    """SciPy itself crashes on some of these files."""
    whole = nested_cells(packed)
    chance = random.Random(0)
    for trial in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(120, len(damaged))] = chance.randrange(256)
        if trial % 3 == 0:
            damaged = damaged[: chance.randrange(len(damaged))]
        with contextlib.suppress(UnusableFileError):
            parse_cells(bytes(damaged), "cells")
