import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics._engine.match_pairs import MatchPairs, split_queries


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 25))
def test_ranges_are_bounded_and_complete(counts, most):
    parts = list(split_queries(np.array(counts, dtype=np.int64), most))
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(len(counts)))
    assert all(1 <= stop - start <= most for start, stop in parts)


def test_query_of_every_pair():
    pairs = MatchPairs(np.array([0, 2, 2, 3]), np.array([4, 7, 1]), np.ones(3, dtype=bool))
    assert pairs.query.tolist() == [0, 0, 2]


def test_pairs_of_some_queries():
    valid = np.array([True, False, True, True])
    pairs = MatchPairs(np.array([0, 2, 2, 3, 4]), np.array([4, 7, 1, 9]), valid)
    some = pairs.select(np.array([0, 1, 3]))
    assert some.begin.tolist() == [0, 2, 2, 3]
    assert some.rows.tolist() == [4, 7, 9]
    assert some.valid.tolist() == [True, False, True]
