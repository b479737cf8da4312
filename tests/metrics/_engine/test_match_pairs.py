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


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 30))
def test_ranges_of_several_queries_hold_no_more_pairs_than_wanted(counts, most):
    parts = list(split_queries(np.array(counts), len(counts), most))
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(len(counts)))
    assert all(stop - start == 1 or sum(counts[start:stop]) <= most for start, stop in parts)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 10**6))
def test_parts_of_pairs_like_lists(counts, seed):
    rng = np.random.default_rng(seed)
    begin = np.concatenate([[0], np.cumsum(counts)])
    pairs = MatchPairs(begin, rng.integers(0, 9, begin[-1]), rng.random(begin[-1]) < 0.5)

    def listed(some):
        rows = np.split(some.rows, some.begin[1:-1])
        valid = np.split(some.valid, some.begin[1:-1])
        return [list(zip(*sides, strict=True)) for sides in zip(rows, valid, strict=True)]

    every = listed(pairs)
    first, last = sorted(rng.integers(0, len(counts) + 1, 2).tolist())
    if first < last:
        assert listed(pairs.part(first, last)) == every[first:last]

    chosen = rng.permutation(len(counts))[: rng.integers(1, len(counts) + 1)]
    assert listed(pairs.of_queries(chosen)) == [every[i] for i in chosen]

    inside = [[(row - 3, valid) for row, valid in query if 3 <= row < 7] for query in every]
    assert listed(pairs.within(3, 7)) == inside
