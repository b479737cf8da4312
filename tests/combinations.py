"""Parametrise a test by every combination of options, of which few are enough for each change."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

_LEAST_NEW = (50, 25, 12, 6, 3, 1)


def by_threes(
    names: str,
    rows: Sequence[tuple[Any, ...]],
    features: Callable[..., tuple[Any, ...]] | None = None,
) -> pytest.MarkDecorator:
    """Parametrise by all rows, and mark those slow whose values have met in others.

    The rows that are left show every three values together that any row has.

    Args:
        names: The arguments of the test, as of ``pytest.mark.parametrize``.
        rows: Their values in each combination.
        features: What is to meet, of the values of a row; defaults to the values.
    """
    quick = _covering([features(*row) if features else row for row in rows])
    params = [
        pytest.param(*row, marks=[] if number in quick else pytest.mark.slow)
        for number, row in enumerate(rows)
    ]
    return pytest.mark.parametrize(names, params)


def _covering(rows: Sequence[tuple[Any, ...]]) -> set[int]:
    """Numbers of rows that have all triples of values; first those that have many new ones."""
    chosen: set[int] = set()
    seen: set[tuple[Any, ...]] = set()
    triples = [set(itertools.combinations(enumerate(row), 3)) for row in rows]

    for least in _LEAST_NEW:
        for number, row in enumerate(triples):
            if len(row - seen) >= least:
                chosen.add(number)
                seen |= row
    return chosen
