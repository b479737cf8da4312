import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers._deal import deal
from clipreid_kit.samplers._rows import generator


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, 5), st.integers(0, 9))
def test_every_part_once_and_no_identity_twice_in_a_batch(parts, extra, seed):
    num_batches = max(parts) + extra
    table = deal(np.array(parts), num_batches, generator(seed))
    assert sorted(table[table >= 0].tolist()) == list(range(sum(parts)))
    assert (table[:-1] >= 0).all()  # batches differ by one in size at most
    identity = np.repeat(np.arange(len(parts)), parts)
    for column in table.T:
        held = identity[column[column >= 0]].tolist()
        assert len(set(held)) == len(held)


def test_an_identity_that_spans_two_rows_may_come_in_any_batch():
    # three parts of identity 0, two of 1 in four batches: 1 begins in the first row and ends in the second
    pairs = set()
    for seed in range(100):
        table = deal(np.array([3, 2]), 4, generator(seed))
        first, second = int(np.flatnonzero(table[0] == 3)[0]), int(np.flatnonzero(table[1] == 4)[0])
        pairs.add((first, second))
    assert pairs == {(a, b) for a in range(4) for b in range(4) if a != b}
