import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data.readers._integer_columns import integers_if_all, optional_integers_if_all


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([], []),
        (["0", "7", "-1", "123456789012345678"], [0, 7, -1, 123456789012345678]),
        (["7", "0007"], ["7", "0007"]),
        (["7", "+1"], ["7", "+1"]),
        (["-0"], ["-0"]),
        (["1.0"], ["1.0"]),
        (["1_000"], ["1_000"]),
        ([" 1"], [" 1"]),
        (["1\n"], ["1\n"]),
        (["\u0663"], ["\u0663"]),
        (["9" * 5000], ["9" * 5000]),
    ],
)
def test_cells_become_integers_only_if_nothing_is_lost(cells, expected):
    assert integers_if_all(cells) == expected


@given(st.lists(st.integers(-(10**17), 10**17).map(str) | st.text(max_size=4)))
def test_writing_the_result_gives_the_cells(cells):
    assert [str(cell) for cell in integers_if_all(cells)] == cells


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([], []),
        (["5", "", "7"], [5, None, 7]),
        (["5", "", "x"], ["5", None, "x"]),
        (["", ""], [None, None]),
    ],
)
def test_empty_cells_are_none_and_do_not_keep_the_others_strings(cells, expected):
    assert optional_integers_if_all(cells) == expected
