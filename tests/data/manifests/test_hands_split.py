import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, apply_split, check_splits, records_of
from clipreid_kit.data.hands import split_hands

_ASPECTS = ("dorsal_l", "dorsal_r", "palmar_l", "palmar_r")


def _hands(num_persons=(7, 8, 6, 9), images=3):
    """Some images of each person, with another number of persons in each aspect."""
    records = []
    for aspect, count in zip(_ASPECTS, num_persons, strict=True):
        for person in range(count):
            for number in range(images):
                path = f"h/{aspect}_{person}_{number}.jpg"
                records.append(ImageRecord(path, person, view=aspect))
    return records


def _of_aspect(aspect, sizes):
    """As many images of each person as ``sizes`` says, in one aspect."""
    records = []
    for person, size in enumerate(sizes):
        for number in range(size):
            path = f"h/{aspect}_{person}_{number}.jpg"
            records.append(ImageRecord(path, person, view=aspect))
    return records


def _distractors(aspect, count):
    return [
        ImageRecord(f"h/x{number}.jpg", 1500 + number, view=aspect, split="distractor")
        for number in range(count)
    ]


def _sizes(manifest):
    return {name: len(keys) for name, keys in manifest.splits.items()}


def test_the_protocol_of_hands():
    manifest = split_hands(_hands(), aspect="dorsal_l", num_splits=10, seed=5)
    sizes = _sizes(manifest)

    # 4 of 7 persons are trained on, with one of 3 images for validation
    assert sizes["train"] == 4 * 2
    assert sizes["val"] == 4

    for number in range(10):
        assert sizes[f"query{number}"] == 3 * 2
        assert sizes[f"gallery{number}"] == 3
        # one image of each person in the second half of each aspect
        assert sizes[f"gallery{number}_all"] == 3 + 4 + 3 + 4


def test_galleries_are_drawn_anew():
    manifest = split_hands(_hands(), aspect="dorsal_l", num_splits=10, seed=5)

    assert len({manifest.splits[f"gallery{number}"] for number in range(10)}) > 3


_records = st.fixed_dictionaries(
    {
        "counts": st.lists(
            st.lists(st.integers(0, 4), min_size=4, max_size=9), min_size=2, max_size=3
        ),
        "num_distractors": st.integers(0, 3),
    }
)


def _build(counts, num_distractors):
    """Records of several aspects; the first and the last four persons have three images."""
    records = _distractors("view0", num_distractors)
    for number, of_aspect in enumerate(counts):
        records += _of_aspect(f"view{number}", [3, *of_aspect, 3, 3, 3, 3])
    return records


@settings(max_examples=10)
@given(drawn=_records, seed=st.integers(0, 9))
def test_training_and_validation_hold_the_first_half_of_the_persons(drawn, seed):
    records = _build(**drawn)
    splits = split_hands(records, aspect="view0", num_splits=1, seed=seed).splits
    person_of = {
        record.path.removeprefix("h/"): record.identity
        for record in records
        if record.view == "view0" and record.split is None
    }

    persons = sorted(set(person_of.values()))
    first_half = persons[: math.ceil(len(persons) / 2)]
    of_first_half = [key for key, person in person_of.items() if person in first_half]
    assert sorted([*splits["train"], *splits["val"]]) == sorted(of_first_half)


@settings(max_examples=10)
@given(drawn=_records, seed=st.integers(0, 9))
def test_each_gallery_has_one_image_of_each_person_of_the_second_half(drawn, seed):
    records = _build(**drawn)
    splits = split_hands(records, aspect="view0", num_splits=3, seed=seed).splits
    person_of = {
        record.path.removeprefix("h/"): record.identity
        for record in records
        if record.view == "view0" and record.split is None
    }
    distractors = {f"x{number}.jpg" for number in range(drawn["num_distractors"])}

    persons = sorted(set(person_of.values()))
    second_half = persons[math.ceil(len(persons) / 2) :]
    of_second_half = [key for key, person in person_of.items() if person in second_half]

    for number in range(3):
        query, gallery = splits[f"query{number}"], splits[f"gallery{number}"]
        assert sorted([*query, *gallery]) == sorted([*of_second_half, *distractors])

        persons_of_gallery = [person_of[key] for key in gallery if key not in distractors]
        assert Counter(persons_of_gallery) == dict.fromkeys(second_half, 1)


@settings(max_examples=10)
@given(drawn=_records, seed=st.integers(0, 9))
def test_the_larger_gallery_adds_other_aspects_only(drawn, seed):
    records = _build(**drawn)
    splits = split_hands(records, aspect="view0", num_splits=3, seed=seed).splits

    for number in range(3):
        gallery, larger = splits[f"gallery{number}"], splits[f"gallery{number}_all"]
        assert len(set(larger)) == len(larger)
        assert set(gallery) < set(larger)
        assert not any(key.startswith("view0") for key in set(larger) - set(gallery))


@settings(max_examples=10)
@given(drawn=_records, seed=st.integers(0, 9), order=st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(drawn, seed, order):
    records = _build(**drawn)
    mixed = records.copy()
    order.shuffle(mixed)

    manifest = split_hands(records, aspect="view0", num_splits=3, seed=seed)
    assert split_hands(mixed, aspect="view0", num_splits=3, seed=seed) == manifest


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [("dorsal_l", 73), ("dorsal_r", 71), ("palmar_l", 75), ("palmar_r", 71)],
)
def test_11k_hands_has_the_galleries_of_the_protocol(aspect, expected):
    hands = _hands((146, 143, 151, 143), images=2)
    sizes = _sizes(split_hands(hands, aspect=aspect, num_splits=1))

    assert sizes["gallery0"] == expected
    assert sizes["gallery0_all"] == 290


def test_polyu_hands_has_the_galleries_of_the_protocol():
    records = [
        ImageRecord(f"h/{n}.jpg", n % 502, view="dorsal_r", split="subject") for n in range(4650)
    ]
    records += [
        ImageRecord(f"h/x{n}.jpg", 1502 + n % 213, view="dorsal_r", split="distractor")
        for n in range(1342)
    ]
    sizes = _sizes(split_hands(records, aspect="dorsal_r", num_splits=1))

    assert sizes["val"] == 251
    assert sizes["gallery0"] == 1593


def test_persons_of_other_aspects_match_no_query():
    records = _hands()
    applied = apply_split(records, split_hands(records, aspect="dorsal_r", num_splits=2))
    check_splits(applied, query="query1", gallery="gallery1_all", min_images=1)

    persons = {record.identity for record in records_of(applied, "query0")}
    assert (
        persons == {record.identity for record in records_of(applied, "gallery0")} == {4, 5, 6, 7}
    )

    gallery = records_of(applied, "gallery0_all")
    assert len({record.identity for record in gallery}) == len(gallery)
    strangers = [record for record in gallery if record.view != "dorsal_r"]
    assert not persons & {record.identity for record in strangers}


def test_persons_of_other_aspects_have_numbers_by_aspect():
    records = _hands()
    applied = apply_split(records, split_hands(records, aspect="dorsal_r", num_splits=1))

    strangers = {
        (record.view, record.identity // 1_000_000)
        for record in records_of(applied, "gallery0_all")
        if record.view != "dorsal_r"
    }
    assert strangers == {("dorsal_l", 11), ("palmar_l", 21), ("palmar_r", 31)}


def test_other_aspects_are_in_the_larger_gallery_only():
    records = _hands()
    applied = apply_split(records, split_hands(records, aspect="dorsal_r", num_splits=2))

    assert all(r.view == "dorsal_r" for r in applied if not r.split.endswith("_all"))


def test_a_single_aspect_has_no_larger_gallery():
    records = [record for record in _hands() if record.view == "dorsal_r"]
    manifest = split_hands(
        [*records, *_distractors("dorsal_r", 5)], aspect="dorsal_r", num_splits=1
    )

    assert _sizes(manifest) == {"train": 8, "val": 4, "query0": 8, "gallery0": 4 + 5}
    assert manifest.identities == {}


def test_distractors_are_in_both_galleries():
    records = [*_hands(), *_distractors("dorsal_r", 5)]
    splits = split_hands(records, aspect="dorsal_r", num_splits=1).splits

    assert len(splits["gallery0"]) == 4 + 5
    assert set(splits["gallery0"]) < set(splits["gallery0_all"])


def test_a_person_with_a_single_image_is_trained_on():
    manifest = split_hands(_of_aspect("dorsal_x", [1, 3, 3, 3]), aspect="dorsal_x", num_splits=1)

    # the keys begin below the common folder
    assert "dorsal_x_0_0.jpg" in manifest.splits["train"]


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        (
            _hands(),
            "no record has view 'dorsal'; the views are "
            "'dorsal_l', 'dorsal_r', 'palmar_l', 'palmar_r'",
        ),
        (
            [ImageRecord("a.jpg", "x", view="dorsal")],
            "expected persons as whole numbers from 0 to 9999999, got 'x'",
        ),
        (
            [ImageRecord("a.jpg", 10_000_000, view="dorsal")],
            "expected persons as whole numbers from 0 to 9999999, got 10000000",
        ),
        (
            [ImageRecord("a.jpg", 1, view="dorsal")],
            "1 images of 1 identities leave no image for 'val', 'query0', 'gallery0'",
        ),
    ],
)
def test_records_that_fit_no_protocol_are_explained(records, problem):
    with pytest.raises(ValueError, match=f"split_hands: {problem}"):
        split_hands(records, aspect="dorsal", num_splits=1)
