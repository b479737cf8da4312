"""When a column of strings is a column of integers."""

import re
from collections.abc import Sequence

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # 18 digits always fit 64 bits


def integers_if_all(cells: Sequence[str]) -> list[int | str]:
    """Turn cells into integers if every one is written as ``str`` writes an integer.

    ``7`` and ``-1`` are such literals; ``0007``, ``+1``, ``1.0`` and ``1_000`` are not, and one such cell
    keeps the whole column as strings, so that nothing is lost.
    """
    if all(_INTEGER.fullmatch(cell) for cell in cells):
        return [int(cell) for cell in cells]
    return list(cells)
