import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, check_identities, check_splits, records_of


def _record(identity, split=None, camera=None):
    return ImageRecord(f"{identity}_{split}_{camera}.jpg", identity, camera=camera, split=split)


def _sound():
    """A sound experiment: two training identities, two with queries, and a distractor."""
    return [
        _record("a", "train", 1),
        _record("a", "train", 2),
        _record("b", "train", 1),
        _record("b", "train", 1),
        _record("c", "query", 1),
        _record("c", "gallery", 2),
        _record("d", "query", 2),
        _record("d", "gallery", 1),
        _record("e", "gallery", 1),
    ]


def test_the_records_of_a_split_keep_their_order():
    gallery = records_of(iter(_sound()), "gallery")

    assert [record.identity for record in gallery] == ["c", "d", "e"]


def test_an_unknown_split_lists_the_splits_that_exist():
    records = [*_sound(), _record("z")]

    text = "no record has split 'val'; there are 'gallery': 3, 'query': 2, 'train': 4, None: 1"
    with pytest.raises(ValueError, match=f"records_of: {text}"):
        records_of(records, "val")


def test_no_records_have_no_splits():
    with pytest.raises(ValueError, match="records_of: there are no records"):
        records_of([], "train")


@given(st.sets(st.integers(0, 20), min_size=1), st.sets(st.integers(0, 20), min_size=1))
def test_identities_must_be_disjoint(train, test):
    train_records = [_record(identity) for identity in train]
    test_records = [_record(identity) for identity in test]

    shared = train & test
    if not shared:
        check_identities(train_records, test_records)
        return

    text = rf"share {len(shared)} (identity|identities) \({min(shared)}"
    with pytest.raises(ValueError, match=text):
        check_identities(train_records, test_records)


def test_many_shared_identities_are_counted_and_three_named():
    records = [_record(name) for name in "edcba"]

    with pytest.raises(ValueError, match=r"share 5 identities \('a', 'b', 'c', \.\.\.\)\. Move"):
        check_identities(records, records)


def test_integers_and_strings_are_not_comparable():
    text = r"check_identities: .*got int \(1\) and str \('1'\)\. Map all"

    with pytest.raises(ValueError, match=text):
        check_identities([_record(1)], [_record("1")])


def test_a_sound_experiment_passes():
    assert check_splits(_sound()) is None


def test_unknown_cameras_pass():
    assert check_splits([dataclasses.replace(record, camera=None) for record in _sound()]) is None


def test_splits_may_have_other_names():
    names = {"train": "t", "query": "q", "gallery": "g"}
    renamed = [dataclasses.replace(record, split=names[record.split]) for record in _sound()]

    check_splits(renamed, **names)


def test_an_evaluation_needs_no_training_split():
    check_splits([record for record in _sound() if record.split != "train"], train=None)


@pytest.mark.parametrize(
    ("further", "problem"),
    [
        (_record("c", "train"), r"training and test share 1 identity \('c'\)"),
        (
            _record("f", "train"),
            r"split 'train' has 1 identity \('f'\) with fewer than 2 images\. .*min_images=1",
        ),
        (
            _record("f", "query"),
            r"split 'query' has 1 identity \('f'\) without an image in split 'gallery'",
        ),
        (_record(3, "gallery"), "all identities as integers or all as strings"),
    ],
)
def test_one_wrong_record_is_found(further, problem):
    with pytest.raises(ValueError, match=problem):
        check_splits([*_sound(), further])


def test_single_images_are_allowed_on_request():
    check_splits([*_sound(), _record("f", "train")], min_images=1)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_a_missing_split_is_named(split):
    records = [record for record in _sound() if record.split != split]

    with pytest.raises(ValueError, match=f"no record has split '{split}'"):
        check_splits(records)


def test_a_single_camera_leaves_no_match():
    records = [dataclasses.replace(record, camera=1) for record in _sound()]

    text = r"none of 2 queries has a gallery match from another camera\. .*None"
    with pytest.raises(ValueError, match=text):
        check_splits(records)


def test_a_match_of_the_last_query_is_enough():
    records = [dataclasses.replace(record, camera=1) for record in _sound()]
    gallery_image_of_d = 7
    records[gallery_image_of_d] = dataclasses.replace(records[gallery_image_of_d], camera=2)

    check_splits(records)


@pytest.mark.unhooked
@pytest.mark.parametrize("min_images", [0, "2", None])
def test_an_impossible_minimum_is_refused(min_images):
    text = "check_splits: expected min_images as a whole number >= 1"

    with pytest.raises(ValueError, match=text):
        check_splits(_sound(), min_images=min_images)
