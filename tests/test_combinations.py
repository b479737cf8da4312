"""Combinations of options, of which a few are quick."""

import itertools

from combinations import by_threes


def combinations_in(rows, size):
    """How many combinations of values some columns have, at least."""
    return min(
        len({tuple(row[column] for column in columns) for row in rows})
        for columns in itertools.combinations(range(6), size)
    )


def test_three_values_meet_in_the_quick_rows_and_four_in_all() -> None:
    rows = list(itertools.product("ab", "cd", "ef", "gh", "ij", "kl"))
    params = by_threes("a,b,c,d,e,f", rows).args[1]

    quick = [param.values for param in params if not param.marks]
    assert combinations_in(quick, 3) == 8
    assert len(quick) < 20

    every = [param.values for param in params]
    assert combinations_in(every, 4) == 16
    assert len(set(every)) == len(every) < 48
