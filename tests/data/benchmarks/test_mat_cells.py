"""Files as SciPy writes them, and the same with damage, on which SciPy itself may crash."""

import contextlib
import io
import random

import numpy as np
import pytest

from clipreid_kit.data.benchmarks._mat_cells import BadMatFileError, read_mat_cells

scipy_io = pytest.importorskip("scipy.io")


def file_of(value, *, compressed=False):
    stream = io.BytesIO()
    scipy_io.savemat(stream, {"other": np.ones(3), "cells": value}, do_compression=compressed)
    return stream.getvalue()


def nested():
    cells = np.empty((2, 1), dtype=object)
    for row in range(2):
        cells[row, 0] = np.empty((3, 1), dtype=object)
        for column in range(3):
            matrix = np.arange(6).reshape(2, 3) + 10 * row + column
            cells[row, 0][column, 0] = matrix if column else np.zeros((0, 0))
    return cells


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8", "i8"])
def test_numbers_of_every_type(compressed, dtype):
    matrix = np.arange(6).reshape(2, 3).astype(dtype)
    found = read_mat_cells(file_of(matrix, compressed=compressed), "cells")
    assert found.tolist() == matrix.tolist()


@pytest.mark.parametrize("compressed", [False, True])
def test_nested_cells(compressed):
    found = read_mat_cells(file_of(nested(), compressed=compressed), "cells")
    assert [len(cells) for cells in found] == [3, 3]
    assert found[0][0].size == 0
    assert found[1][2].tolist() == [[12, 13, 14], [15, 16, 17]]


def test_another_variable_or_file():
    with pytest.raises(BadMatFileError, match="it has no variable draws"):
        read_mat_cells(file_of(nested()), "draws")
    with pytest.raises(BadMatFileError, match="no header of a MATLAB 5 file"):
        read_mat_cells(b"text" * 100, "cells")


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_an_error_or_other_numbers(compressed):
    whole = file_of(nested(), compressed=compressed)
    chance = random.Random(0)
    for trial in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(120, len(damaged))] = chance.randrange(256)
        if trial % 3 == 0:
            damaged = damaged[: chance.randrange(len(damaged))]
        with contextlib.suppress(BadMatFileError):
            read_mat_cells(bytes(damaged), "cells")
