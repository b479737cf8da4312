import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, check_identities, check_splits, records_of


def _record(identity, split=None, camera=None):
    return ImageRecord(f"{identity}_{split}_{camera}.jpg", identity, camera=camera, split=split)


def _sound(camera=True):
    rows = [("a", "train", 1), ("a", "train", 2), ("b", "train", 1), ("b", "train", 1)]
    rows += [
        ("c", "query", 1),
        ("c", "gallery", 2),
        ("d", "query", 2),
        ("d", "gallery", 1),
        ("e", "gallery", 1),
    ]
    return [
        _record(identity, split, number if camera else None) for identity, split, number in rows
    ]


def test_records_of_keeps_the_order():
    assert [r.identity for r in records_of(iter(_sound()), "gallery")] == ["c", "d", "e"]


def test_an_empty_split_lists_the_splits_there_are():
    records = [*_sound(), _record("z")]
    with pytest.raises(
        ValueError,
        match=r"records_of: expected records of split 'val', got 'gallery': 3, 'query': 2, 'train': 4, None: 1\.",
    ):
        records_of(records, "val")
    with pytest.raises(ValueError, match="got no records at all"):
        records_of([], "train")


@given(st.sets(st.integers(0, 20), min_size=1), st.sets(st.integers(0, 20), min_size=1))
def test_check_identities_is_disjointness(train, test):
    arguments = [_record(i) for i in train], [_record(i) for i in test]
    if train & test:
        with pytest.raises(ValueError, match=rf"got {len(train & test)} \({min(train & test)}"):
            check_identities(*arguments)
    else:
        check_identities(*arguments)


def test_many_shared_identities_are_counted_and_three_named():
    records = [_record(name) for name in "edcba"]
    with pytest.raises(ValueError, match=r"got 5 \('a', 'b', 'c', \.\.\.\) in both\. Move"):
        check_identities(records, records)


def test_numbers_and_strings_do_not_compare():
    with pytest.raises(
        ValueError, match=r"check_identities: .*got int \(1\) and str \('1'\)\. Map all"
    ):
        check_identities([_record(1)], [_record("1")])


@pytest.mark.parametrize("camera", [True, False])
def test_a_sound_experiment_passes(camera):
    assert check_splits(_sound(camera)) is None


def test_other_names_and_no_training():
    names = {"train": "t", "query": "q", "gallery": "g"}
    renamed = [dataclasses.replace(record, split=names[record.split]) for record in _sound()]
    check_splits(renamed, **names)
    check_splits([record for record in _sound() if record.split != "train"], train=None)


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (_record("c", "train"), r"no identity in both training and test, got 1 \('c'\)"),
        (
            _record("f", "train"),
            r"2 images or more of each identity in 'train', got 1 \('f'\) with fewer.*min_images=1",
        ),
        (_record("f", "query"), r"every identity of 'query' in 'gallery', got 1 \('f'\) not there"),
        (_record(3, "gallery"), "all identities as integers or all as strings"),
    ],
)
def test_one_wrong_record_is_found(extra, problem):
    with pytest.raises(ValueError, match=problem):
        check_splits([*_sound(), extra])


def test_singletons_are_allowed_on_request():
    check_splits([*_sound(), _record("f", "train")], min_images=1)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_a_missing_split_is_named(split):
    with pytest.raises(ValueError, match=f"expected records of split '{split}'"):
        check_splits([record for record in _sound() if record.split != split])


def test_one_camera_for_everything_leaves_no_match():
    records = [dataclasses.replace(record, camera=1) for record in _sound()]
    with pytest.raises(
        ValueError, match=r"another camera than the query's, got none for any of 2 queries\. .*None"
    ):
        check_splits(records)
    records[-2] = dataclasses.replace(
        records[-2], camera=2
    )  # the gallery image of "d", the last query
    check_splits(records)
