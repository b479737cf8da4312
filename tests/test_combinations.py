"""Combinations of options, of which a few are quick."""

import itertools

from combinations import by_threes


def test_three_values_meet_in_the_quick_rows() -> None:
    rows = list(itertools.product("ab", "cd", "ef", "gh", "ij"))
    mark = by_threes("a,b,c,d,e", rows)
    params = mark.args[1]

    quick = [param.values for param in params if not param.marks]
    for columns in itertools.combinations(range(5), 3):
        assert len({tuple(row[column] for column in columns) for row in quick}) == 8
    assert len(params) == 32
    assert len(quick) < 16
