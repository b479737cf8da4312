import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.samplers._pk_epoch import deal
from clipreid_kit.samplers._random import seeded_generator

part_counts = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@given(part_counts, st.integers(0, 5), st.integers(0, 9))
def test_every_part_is_dealt_once(parts, num_more_batches, seed):
    table = deal(np.array(parts), max(parts) + num_more_batches, seeded_generator(seed))
    assert sorted(table[table >= 0].tolist()) == list(range(sum(parts)))


@given(part_counts, st.integers(0, 5), st.integers(0, 9))
def test_batches_differ_by_at_most_one_part(parts, num_more_batches, seed):
    table = deal(np.array(parts), max(parts) + num_more_batches, seeded_generator(seed))
    assert (table[:-1] >= 0).all()


@given(part_counts, st.integers(0, 5), st.integers(0, 9))
def test_no_identity_is_twice_in_a_batch(parts, num_more_batches, seed):
    table = deal(np.array(parts), max(parts) + num_more_batches, seeded_generator(seed))
    identity_of_part = np.repeat(np.arange(len(parts)), parts)

    for column in table.T:
        identities = identity_of_part[column[column >= 0]].tolist()
        assert len(set(identities)) == len(identities)


def test_an_identity_that_spans_two_rounds_may_be_in_any_batches():
    # Three parts of identity 0 and two of identity 1 in four batches: identity 1 begins in the
    # first round and ends in the second.
    pairs = set()
    for seed in range(100):
        table = deal(np.array([3, 2]), 4, seeded_generator(seed))
        first_batch = int(np.flatnonzero(table[0] == 3)[0])
        second_batch = int(np.flatnonzero(table[1] == 4)[0])
        pairs.add((first_batch, second_batch))

    batches = range(4)
    assert pairs == {(a, b) for a in batches for b in batches if a != b}
