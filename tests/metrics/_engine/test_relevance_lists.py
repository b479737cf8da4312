import numpy as np
import pytest
import torch

from clipreid_kit.metrics._engine import match_pairs
from clipreid_kit.metrics._engine.relevance_lists import RelevanceLists


def lists(relevant, width, *, leave_one_out=False):
    return RelevanceLists("owner", relevant, (len(relevant), width), leave_one_out=leave_one_out)


def test_by_hand():
    found = lists([[2, 0, 2], [], torch.tensor([1]), np.array([3])], 4).pairs(0, 4)
    assert found.begin.tolist() == [0, 2, 2, 3, 4]
    assert found.rows.tolist() == [0, 2, 1, 3]
    assert found.valid.all()


def test_in_leave_one_out_a_query_is_not_its_own_match():
    found = lists([[1, 2], [], [1, 2]], 3, leave_one_out=True)
    assert found.pairs(0, 3).rows.tolist() == [
        0,
        1,
        2,
        1,
        1,
        2,
    ]  # its own row is not a non-match either
    assert found.pairs(0, 3).valid.tolist() == [False, True, True, False, True, False]
    assert found.pairs(2, 3).begin.tolist() == [0, 2]
    assert found.pairs(2, 3).valid.tolist() == [True, False]


@pytest.mark.parametrize(("most", "pairs"), [(100, 100), (1, 100), (2, 100), (100, 1), (100, 3)])
def test_ranges_cover_all_queries_once(monkeypatch, most, pairs):
    monkeypatch.setattr(match_pairs, "MAX_PAIRS", pairs)
    found = lists([[0, 1], [], [2], [0, 1, 2, 3], [], []], 4)
    parts = list(found.query_ranges(most))

    assert [0, *(stop for _, stop in parts)] == [*(start for start, _ in parts), 6]
    assert max(stop - start for start, stop in parts) <= most
    assert all(len(found.pairs(*part).rows) <= pairs for part in parts if part[1] - part[0] > 1)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        ([[0]], "relevant as 2 lists, one for each query, got 1"),
        ([[0], [4]], "relevant row numbers from 0 to 3, got 4 for query 1. They are row numbers"),
        ([[-1], [0]], "got -1 for query 0"),
        ([[0.5], [0]], r"lists of gallery row numbers, got float64 of shape \(1,\) for query 0"),
        ([[[0]], [0]], r"got int64 of shape \(1, 1\) for query 0"),
    ],
)
def test_bad_lists(relevant, message):
    with pytest.raises(ValueError, match=message):
        RelevanceLists("owner", relevant, (2, 4), leave_one_out=False)
