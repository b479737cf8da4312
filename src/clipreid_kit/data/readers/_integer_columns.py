"""Conversion of a column of strings to integers, where nothing is lost by it."""

import re
from collections.abc import Sequence

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # 18 digits always fit 64 bits


def integers_if_all(cells: Sequence[str]) -> list[int | str]:
    """Convert cells to integers if every cell is written as ``str`` writes an integer.

    ``7`` and ``-1`` are such literals; ``0007``, ``+1``, ``1.0`` and ``1_000`` are not. One such
    cell keeps the whole column as strings.
    """
    if all(_INTEGER.fullmatch(cell) for cell in cells):
        return [int(cell) for cell in cells]
    return list(cells)


def optional_integers_if_all(cells: Sequence[str]) -> list[int | str | None]:
    """Convert cells as :func:`integers_if_all` does, with ``None`` for empty cells."""
    filled = iter(integers_if_all([cell for cell in cells if cell]))
    return [next(filled) if cell else None for cell in cells]
