import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data.readers._literals import integers_if_all


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
