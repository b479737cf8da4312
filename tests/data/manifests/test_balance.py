from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, balance_records


def _records(groups, **columns):
    return [
        ImageRecord(str(n), n, extra={"category": name}, **columns) for n, name in enumerate(groups)
    ]


def _sizes(records):
    return Counter(record.extra["category"] for record in records)


@given(
    groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    at_most=st.one_of(st.none(), st.just("smallest"), st.integers(1, 9)),
    at_least=st.one_of(st.none(), st.just("largest"), st.integers(1, 9)),
)
def test_groups_get_the_sizes_that_were_asked_for(groups, at_most, at_least):
    records = _records(groups)
    if isinstance(at_most, int) and isinstance(at_least, int) and at_least > at_most:
        return
    before = _sizes(records)
    most = min(before.values()) if at_most == "smallest" else at_most or 99
    if at_most == "smallest" and isinstance(at_least, int) and at_least > most:
        return
    balanced = balance_records(records, at_most=at_most, at_least=at_least)
    after = _sizes(balanced)
    cut = {name: min(count, most) for name, count in before.items()}
    least = max(cut.values()) if at_least == "largest" else at_least or 0
    assert after == {name: max(count, least) for name, count in cut.items()}
    times = Counter(record.path for record in balanced)
    for name, count in cut.items():  # what stays is repeated evenly
        of_group = [
            times[record.path]
            for record in records
            if record.extra["category"] == name and times[record.path]
        ]
        assert len(of_group) == count
        assert max(of_group) - min(of_group) <= 1
    kept = [record for record in records if times[record.path]]
    assert balanced[: len(kept)] == kept


def test_what_is_drawn_depends_on_the_seed():
    records = _records("a" * 50 + "b" * 5)
    first = balance_records(records)
    assert first == balance_records(records)
    assert first != balance_records(records, seed=1)


def test_groups_by_caption_length_column_or_function():
    records = [
        ImageRecord(str(n), n, caption="x" * n, camera=n % 2, view="side")
        for n in (1, 19, 20, 39, 40)
    ]
    assert len(balance_records(records, "caption_length")) == 3
    assert len(balance_records(records, "camera")) == 4
    assert len(balance_records(records, "view")) == 5
    assert len(balance_records(records, lambda record: record.identity > 1)) == 2
    assert balance_records([]) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"by": "view"}, "a view for every record, got none for 0"),
        ({"by": "caption_length"}, "a caption for every record"),
        ({"at_most": 0}, "at_most as a whole number >= 1"),
        ({"at_most": 2, "at_least": 3}, "at_least <= at_most, got 3 and 2"),
        ({"seed": -1}, "seed as a whole number >= 0"),
    ],
)
def test_wrong_options_are_explained(options, problem):
    with pytest.raises(ValueError, match=f"balance_records: expected {problem}"):
        balance_records(_records("aaaab"), **options)


@pytest.mark.unhooked
def test_words_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="by to be category, caption_length"):
        balance_records(_records("ab"), "colour")
    with pytest.raises(
        ValueError, match="at_most as a whole number, 'smallest' or None, got 'largest'"
    ):
        balance_records(_records("ab"), at_most="largest")
