import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics.relevance import flat_ids, relevance_by_ids, relevance_by_lists


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_by_ids(queries, candidates):
    found = relevance_by_ids("owner", queries, candidates, (len(queries), len(candidates)))
    assert len(found.begin) == len(queries) + 1
    for i, query in enumerate(queries):
        assert found.of(i).tolist() == [j for j, candidate in enumerate(candidates) if candidate == query]


def test_large_integers_of_two_kinds_do_not_meet_in_floats():
    ids = np.array([2**62, 2**62 + 1], dtype=np.uint64)
    found = relevance_by_ids("owner", ids.astype(np.int64), ids, (2, 2))
    assert found.rows.tolist() == [0, 1]


def test_by_lists():
    found = relevance_by_lists("owner", [[2, 0, 2], [], torch.tensor([1]), np.array([3])], (4, 4))
    assert [found.of(i).tolist() for i in range(4)] == [[0, 2], [], [1], [3]]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        ([[0]], "relevant as 2 lists, one for each query, got 1"),
        ([[0], [4]], "relevant candidates from 0 to 3, got 4 for query 1. They are row numbers"),
        ([[-1], [0]], "got -1 for query 0"),
        ([[0.5], [0]], r"relevant as lists of candidate numbers, got float64 \(1,\) for query 0"),
        ([[[0]], [0]], r"got int64 \(1, 1\) for query 0"),
    ],
)
def test_bad_lists(relevant, message):
    with pytest.raises(ValueError, match=message):
        relevance_by_lists("owner", relevant, (2, 4))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], "ids as integers or strings, got float64"),
        (["a", 1], "ids of one kind, got integers and strings mixed"),
        ([[1, 2]], r"ids as 2 ids, one for each row, got shape \(1, 2\)"),
    ],
)
def test_bad_ids(values, message):
    with pytest.raises(ValueError, match=message):
        flat_ids("owner", "ids", values, 2)
    assert flat_ids("owner", "ids", np.array(["a", "b"], dtype=object), 2).dtype.kind == "U"
