import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics._engine import ranks_to_measures
from clipreid_kit.metrics._engine.match_counts import MatchCounts
from clipreid_kit.metrics._engine.ranks_to_measures import (
    _ascending,
    _sum_exactly,
    match_ranks,
    measure_queries,
)


def counted(begin, above, tied):
    matches = MatchCounts(
        np.array(begin), np.zeros(begin[-1], dtype=np.int64), np.empty(0), len(begin) - 1
    )
    matches.above, matches.tied = np.array(above), np.array(tied)

    return matches


# a query with a match below 1 non-match, and two matches below 3 and tied with 2;
# a query without a match; a query with its match at the top
EXAMPLE = counted([0, 3, 3, 4], [3, 1, 3, 0], [2, 0, 2, 0])


@pytest.mark.parametrize(
    ("ties", "ranks"),
    [
        ("optimistic", [2, 5, 6, 1]),
        ("pessimistic", [2, 7, 8, 1]),
        # 2 non-matches among 2 matches: 2/3 before the first, 4/3 before the second
        ("mean", [2, 5 + 2 / 3, 6 + 4 / 3, 1]),
    ],
)
def test_ranks_by_hand(ties, ranks):
    np.testing.assert_allclose(match_ranks(EXAMPLE, ties), ranks, rtol=1e-15)

    precision, penalty, first, count = measure_queries(EXAMPLE, ties)
    np.testing.assert_allclose(
        precision, [np.mean([1 / ranks[0], 2 / ranks[1], 3 / ranks[2]]), np.nan, 1], rtol=1e-15
    )
    np.testing.assert_allclose(penalty, [3 / ranks[2], np.nan, 1], rtol=1e-15)
    assert first.tolist() == [2, 0, 1]
    assert count.tolist() == [3, 0, 1]
    assert first.dtype == (np.float64 if ties == "mean" else np.int64)


def test_ranks_beyond_32_bits():
    matches = counted([0, 2], [2**31 + 5, 2**33], [2**32, 0])
    assert match_ranks(matches, "pessimistic").tolist() == [2**31 + 6 + 2**32, 2**33 + 2]


def test_adding_counts():
    matches = MatchCounts(
        np.array([0, 1, 3]), np.zeros(3, dtype=np.int64), np.array([0.5, 0.1, 0.3]), 2
    )
    matches.add(
        slice(1, 3), matches.similarities[1:3], np.array([0.3, 0.2, 0.1, 0.3, -np.inf, 0.7])
    )

    assert matches.above.tolist() == [0, 4, 1]
    assert matches.tied.tolist() == [0, 1, 2]


@pytest.mark.parametrize("ties", ["optimistic", "pessimistic", "mean"])
def test_threads_measure_like_one(monkeypatch, ties):
    rng = np.random.default_rng(0)
    begin = np.concatenate([[0], np.cumsum(rng.integers(0, 9, 50))])
    matches = counted(begin, rng.integers(0, 99, begin[-1]), rng.integers(0, 3, begin[-1]))
    want = measure_queries(matches, ties)

    monkeypatch.setattr(ranks_to_measures, "_CACHED", 5)
    monkeypatch.setattr(ranks_to_measures, "default_threads", lambda: 3)
    for measure, wanted in zip(measure_queries(matches, ties), want, strict=True):
        np.testing.assert_array_equal(measure, wanted)


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_sums_are_rounded_once(seed, count):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 50, count) / rng.integers(50, 2 ** rng.integers(6, 50), count)
    begin = np.unique(np.append(0, rng.integers(0, count, 5)))
    want = [math.fsum(part.tolist()) for part in np.split(values, begin[1:])]

    assert _sum_exactly(values, begin).tolist() == want


def test_counts_that_do_not_fit_into_one_integer_are_sorted_alike():
    above, tied = [5, 2**40, 5, 2**40], [2**24, 3, 2, 2**24]
    matches = counted([0, 1, 4], above, tied)
    assert [side.tolist() for side in _ascending(matches)] == [
        [5, 5, 2**40, 2**40],
        [2**24, 2, 3, 2**24],
    ]
