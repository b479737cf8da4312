"""Parametrise a test by combinations of options, of which few are enough for each change."""

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

_LEAST_NEW = (50, 25, 12, 6, 3, 1)


def by_threes(
    names: str,
    rows: Sequence[tuple[Any, ...]],
    features: Callable[..., tuple[Any, ...]] | None = None,
) -> pytest.MarkDecorator:
    """Parametrise by rows that show every three values together, and slow ones for every four.

    Args:
        names: The arguments of the test, as of ``pytest.mark.parametrize``.
        rows: Their values in every combination.
        features: What is to meet, of the values of a row; defaults to the values.
    """
    values = [features(*row) if features else row for row in rows]
    quick = _covering(values, 3)
    slow = _covering(values, 4, quick) - quick

    params = [pytest.param(*rows[number]) for number in sorted(quick)]
    params += [pytest.param(*rows[number], marks=pytest.mark.slow) for number in sorted(slow)]
    return pytest.mark.parametrize(names, params)


def _covering(rows: Sequence[tuple[Any, ...]], size: int, given: Collection[int] = ()) -> set[int]:
    """Numbers of rows that have all groups of so many values; first those that have many new ones.

    The rows that are given are among them.
    """
    groups = [set(itertools.combinations(enumerate(row), size)) for row in rows]
    chosen = set(given)
    seen = set().union(*(groups[number] for number in given))

    for least in _LEAST_NEW:
        for number, row in enumerate(groups):
            if len(row - seen) >= least:
                chosen.add(number)
                seen |= row
    return chosen
