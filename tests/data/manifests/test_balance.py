from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, balance_records


def _records(groups):
    return [
        ImageRecord(str(number), number, extra={"category": name})
        for number, name in enumerate(groups)
    ]


def _sizes(records):
    return Counter(record.extra["category"] for record in records)


@given(
    groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    at_most=st.one_of(st.none(), st.just("smallest"), st.integers(1, 9)),
    at_least=st.one_of(st.none(), st.just("largest"), st.integers(1, 9)),
)
def test_groups_have_the_requested_sizes(groups, at_most, at_least):
    records = _records(groups)
    sizes = _sizes(records)

    most = at_most or len(groups)
    if at_most == "smallest":
        most = min(sizes.values())
    cut = {name: min(size, most) for name, size in sizes.items()}

    least = at_least or 0
    if at_least == "largest":
        least = max(cut.values())
    assume(at_most is None or least <= most)

    balanced = balance_records(records, at_most=at_most, at_least=at_least)
    assert _sizes(balanced) == {name: max(size, least) for name, size in cut.items()}

    # Every group keeps as many distinct records as it should, each repeated as often as the others.
    times = Counter(record.path for record in balanced)
    for name, size in cut.items():
        paths = {record.path for record in balanced if record.extra["category"] == name}
        counts = [times[path] for path in paths]
        assert len(counts) == size
        assert max(counts) - min(counts) <= 1


@given(groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
def test_the_kept_records_come_first_in_their_order(groups):
    records = _records(groups)
    balanced = balance_records(records, at_most=3, at_least=3)

    paths = {record.path for record in balanced}
    kept = [record for record in records if record.path in paths]
    assert balanced[: len(kept)] == kept


def test_the_drawn_records_depend_on_the_seed():
    records = _records("a" * 50 + "b" * 5)

    assert balance_records(records) == balance_records(records)
    assert balance_records(records) != balance_records(records, seed=1)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("caption_length", 3),  # 0 to 19, 20 to 39 and 40 characters
        ("camera", 4),
        ("view", 5),
        ("identity", 5),
        (lambda record: record.identity > 1, 2),
    ],
)
def test_groups_by_caption_length_column_or_function(by, expected):
    records = [
        ImageRecord(str(length), length, caption="x" * length, camera=length % 2, view="side")
        for length in (1, 19, 20, 39, 40)
    ]

    assert len(balance_records(records, by)) == expected


def test_no_records_stay_none():
    assert balance_records([]) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"by": "view"}, "0 has no view. Fill it for every record"),
        ({"by": "caption_length"}, "0 has no caption"),
        ({"at_most": 0}, "expected at_most as a whole number >= 1"),
        ({"at_most": 2, "at_least": 3}, "expected at_least <= at_most, got 3 and 2"),
        ({"seed": -1}, "expected seed as a whole number >= 0"),
    ],
)
def test_wrong_options_are_explained(options, problem):
    with pytest.raises(ValueError, match=f"balance_records: {problem}"):
        balance_records(_records("aaaab"), **options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"by": "colour"}, "by to be category, caption_length.*, got 'colour'"),
        ({"at_most": "largest"}, "at_most as a whole number, 'smallest' or None, got 'largest'"),
        ({"at_least": "smallest"}, "at_least as a whole number, 'largest' or None"),
        ({"at_least": 2.5}, r"at_least as a whole number >= 1, got 2\.5"),
    ],
)
def test_words_without_a_meaning_are_refused(options, problem):
    with pytest.raises(ValueError, match=f"balance_records: expected {problem}"):
        balance_records(_records("ab"), **options)
