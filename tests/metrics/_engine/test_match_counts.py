import numpy as np

from clipreid_kit.metrics._engine.match_counts import MatchCounts


def test_queries_with_matches_share_the_counts():
    counts = MatchCounts(np.array([0, 0, 2, 2, 3]), np.array([5, 6, 7]), np.empty(0), 3)
    chosen, some = counts.with_matches()
    assert chosen.tolist() == [1, 3]
    assert some.begin.tolist() == [0, 2, 3]
    assert some.query.tolist() == [0, 0, 1]

    some.above += 1
    assert counts.above.tolist() == [1, 1, 1]
