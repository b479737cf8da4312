from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics._engine.identity_matches import Rule, read_identity_matches


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


def test_rules_and_junk():
    rules = [Rule("cameras", [1, 2], [1, 1, 2, 2]), Rule("values of exclude", None, None)]
    matches = read_identity_matches("owner", (2, 4), ([7, 8], [7, 8, 7, 9]), rules, junk_ids=[9])
    found = matches.pairs(0, 2)
    assert found.rows.tolist() == [0, 2, 1]
    assert found.valid.tolist() == [False, True, True]
    assert matches.junk_rows.tolist() == [3]
    assert (matches.num_gallery_rows, matches.num_gallery, matches.num_identities) == (4, 3, 3)
    assert matches.num_cameras == 2
    assert matches.rules == ["camera rule"]


def test_in_leave_one_out_a_query_is_not_its_own_match():
    matches = read_identity_matches("owner", (3, 3), ([5, 5, 6], None), ())
    found = matches.pairs(0, 3)
    assert found.rows.tolist() == [0, 1, 0, 1, 2]
    assert found.valid.tolist() == [False, True, True, False, False]
