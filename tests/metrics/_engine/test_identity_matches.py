import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics._engine.id_columns import encode_ids, id_array
from clipreid_kit.metrics._engine.identity_matches import read_identity_matches
from clipreid_kit.metrics._engine.match_pairs import split_queries


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=8),
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
)
def test_pairs_of_one_identity(queries, gallery):
    labels = read_identity_matches("owner", (len(queries), len(gallery)), (queries, gallery), ())
    found = labels.pairs(0, len(queries))
    assert len(found.begin) == len(queries) + 1
    for i, query in enumerate(queries):
        rows = found.rows[found.begin[i] : found.begin[i + 1]]
        assert rows.tolist() == [j for j, other in enumerate(gallery) if other == query]
    assert found.valid.all()


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 25))
def test_parts_are_bounded_and_complete(counts, most):
    parts = list(split_queries(np.array(counts, dtype=np.int64), most))
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(len(counts)))
    assert all(1 <= stop - start <= most for start, stop in parts)


def test_large_integers_of_two_kinds_do_not_meet_in_floats():
    ids = np.array([2**62, 2**62 + 1], dtype=np.uint64)
    first, second = encode_ids("owner", (ids.astype(np.int64), ids), (2, 2))
    assert first.tolist() == second.tolist() == [0, 1]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], "ids as integers or strings, got float64"),
        (["a", 1], "ids mixes integers and strings"),
        ([[1, 2]], r"ids as 2 ids, one for each row, got shape \(1, 2\)"),
    ],
)
def test_bad_ids(values, message):
    with pytest.raises(ValueError, match=message):
        id_array("owner", "ids", values, 2)
    assert id_array("owner", "ids", np.array(["a", "b"], dtype=object), 2).dtype.kind == "U"


def test_the_sides_are_named_as_the_caller_names_them():
    with pytest.raises(
        ValueError, match="shop_ids are strings and street_ids are integers, so they never match"
    ):
        encode_ids("owner", (["7"], [7]), (1, 1), ("shop", "street"))
