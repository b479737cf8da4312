import json

import numpy as np
import pytest

from clipreid_kit.metrics import ReidResult


@pytest.fixture
def result():
    # three queries: first match at rank 1, at rank 3, no match at all
    return ReidResult(
        np.array([0.75, 0.25, np.nan]),
        np.array([0.5, 0.25, np.nan]),
        np.array([1, 3, 0]),
        np.array([2, 1, 0]),
        9,
        4,
    )


def test_means_leave_out_queries_without_a_match(result):
    assert result.mean_ap == 0.5
    assert result.mean_inp == 0.375
    assert (result.num_queries, result.num_valid_queries) == (3, 2)
    assert [result.rank(k) for k in (1, 2, 3, 9, 100)] == [0.5, 0.5, 1, 1, 1]
    assert result.cmc.tolist() == [0.5, 0.5, 1, 1]


def test_json_and_text(result):
    assert json.loads(json.dumps(result.to_dict(ranks=(1, 3)))) == {
        "rank_1": 0.5,
        "rank_3": 1.0,
        "mean_ap": 0.5,
        "mean_inp": 0.375,
        "num_queries": 3,
        "num_valid_queries": 2,
        "num_gallery": 9,
    }
    assert str(result) == (
        "Rank-1 50.00  Rank-5 100.00  Rank-10 100.00  mAP 50.00  mINP 37.50  "
        "(2 queries, 9 gallery, 1 queries without a match left out)"
    )


def test_rank_below_one(result):
    with pytest.raises(ValueError, match=r"ReidResult\.rank: expected k >= 1, got 0"):
        result.rank(0)
