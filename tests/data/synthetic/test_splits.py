import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data.synthetic._splits import split_counts, split_name


@pytest.mark.parametrize(
    ("count", "fractions", "expected"),
    [
        (240, (0.6, 0.15, 0.25), (144, 36, 60)),
        (10, (0.8, 0.0, 0.2), (8, 0, 2)),
        (3, (0.9, 0.05, 0.05), (1, 1, 1)),
        (7, (0.0, 0.0, 1.0), (0, 0, 7)),
        (10, (0.7, 0.1, 0.2), (7, 1, 2)),
    ],
)
def test_counts_by_hand(count, fractions, expected):
    assert split_counts(count, fractions) == expected


@given(count=st.integers(3, 5000), weights=st.tuples(*[st.integers(0, 20)] * 3).filter(any))
def test_counts_add_up_and_follow_the_fractions(count, weights):
    fractions = tuple(weight / sum(weights) for weight in weights)
    counts = split_counts(count, fractions)

    assert sum(counts) == count
    for share, fraction in zip(counts, fractions, strict=True):
        assert (share > 0) == (fraction > 0)
        assert share == 1 or abs(share - count * fraction) < 3


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)]
)
def test_bad_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match=r"SyntheticReid: expected split_fractions .*, got \("):
        split_counts(10, fractions)


@pytest.mark.unhooked
@pytest.mark.parametrize("value", ["0.5", None, True])
def test_fractions_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match="SyntheticReid: expected split_fractions as a number"):
        split_counts(10, (0.5, 0.0, value))


@pytest.mark.unhooked
def test_a_wrong_number_of_fractions_is_refused():
    with pytest.raises(ValueError, match="three numbers"):
        split_counts(10, (0.5, 0.5))


def test_too_few_identities_are_refused_with_a_way_out():
    with pytest.raises(
        ValueError, match=r"num_identities >= 3, one for each split, got 2\. Ask for more"
    ):
        split_counts(2, (0.6, 0.2, 0.2))


def test_an_unused_split_needs_no_identity():
    assert split_counts(2, (0.5, 0.0, 0.5)) == (1, 0, 1)


def test_names():
    def names(identity):
        return [split_name(identity, view, (1, 1, 1), query_views=1) for view in range(2)]

    assert names(0) == ["train", "train"]
    assert names(1) == ["val_query", "val_gallery"]
    assert names(2) == ["query", "gallery"]
