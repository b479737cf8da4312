from collections import Counter

import pytest
import split_records
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import (
    ImageRecord,
    apply_split,
    check_splits,
    hold_out_identities,
    records_of,
    split_first_identities,
    split_identities,
)


@given(sizes=split_records.sizes, seed=st.integers(0, 9))
def test_identities_are_divided_whole_and_in_proportion(sizes, seed):
    records = split_records.records_of_sizes(sizes)
    fractions = {"train": 0.5, "val": 0.25, "test": 0.25}
    manifest = split_identities(records, fractions, seed=seed)

    num_identities = {}
    for name, keys in manifest.splits.items():
        num_identities[name] = len({split_records.identity_of(key) for key in keys})

    assert sum(num_identities.values()) == len(sizes)
    for name, fraction in fractions.items():
        assert abs(num_identities[name] - fraction * len(sizes)) < 1


def test_every_identity_is_equally_often_in_the_test_part():
    records = split_records.records_of_sizes([1] * 10)

    counts = Counter()
    for seed in range(400):
        counts.update(split_identities(records, {"a": 0.7, "b": 0.3}, seed=seed).splits["b"])

    # 120 expected, with a standard deviation of 9
    assert len(counts) == 10
    assert min(counts.values()) >= 85
    assert max(counts.values()) <= 155


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("fractions", "problem"),
    [
        (
            {"a": 0.5, "b": 0.4},
            r"expected fractions in \(0, 1\] that sum to 1, got {'a': 0\.5, 'b': 0\.4}",
        ),
        ({"a": 1.5, "b": -0.5}, "expected fractions .* that sum to 1"),
        ({}, "expected fractions .* that sum to 1"),
        ({"a": 0.5, "b": "0.5"}, r"expected fractions\['b'\] as a number, got '0\.5'"),
        ({"a": 0.99, "b": 0.01}, "4 images of 4 identities leave no image for 'b'"),
    ],
)
def test_impossible_fractions_are_explained(fractions, problem):
    with pytest.raises(ValueError, match=f"split_identities: {problem}"):
        split_identities(split_records.records_of_sizes([1] * 4), fractions)


def test_first_identities_are_sorted_as_integers_and_rounded_up():
    records = [ImageRecord(f"{n}.jpg", n) for n in (10, 9, 100, 1200000, 0)]

    assert split_first_identities(records).splits == {
        "train": ("0.jpg", "10.jpg", "9.jpg"),
        "test": ("100.jpg", "1200000.jpg"),
    }


def test_first_identities_are_sorted_as_strings():
    records = [ImageRecord(f"{n}.jpg", str(n)) for n in (10, 9, 100)]

    assert split_first_identities(records, names=("a", "b")).splits == {
        "a": ("10.jpg", "100.jpg"),
        "b": ("9.jpg",),
    }


@pytest.mark.unhooked
@pytest.mark.parametrize("split", [split_first_identities, hold_out_identities])
@pytest.mark.parametrize(
    ("fraction", "problem"),
    [
        (1.0, r"fraction in \(0, 1\), got 1\.0"),
        (0.0, r"fraction in \(0, 1\), got 0\.0"),
        ("0.5", r"fraction as a number, got '0\.5'"),
        (None, "fraction as a number, got None"),
    ],
)
def test_fractions_out_of_range_are_refused(split, fraction, problem):
    records = split_records.records_of_sizes([2, 2])

    with pytest.raises(ValueError, match=f"{split.__name__}: expected {problem}"):
        split(records, fraction=fraction)


@given(
    sizes=split_records.sizes,
    cameras=st.sampled_from([None, 2, 3]),
    query_images=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_held_out_identities_make_sound_queries(sizes, cameras, query_images, seed):
    sizes = [*sizes, 3, 3]
    records = split_records.records_of_sizes(sizes, cameras)
    manifest = hold_out_identities(records, fraction=0.1, query_images=query_images, seed=seed)

    applied = apply_split(records, manifest)
    check_splits(applied, query="val_query", gallery="val_gallery", min_images=1)

    queries = records_of(applied, "val_query")
    gallery = records_of(applied, "val_gallery")
    num_queries = Counter(record.identity for record in queries)
    assert num_queries.keys() == {record.identity for record in gallery}
    assert max(num_queries.values()) <= query_images
    assert len(num_queries) == max(1, int(0.1 * len(sizes) + 0.5))


@given(sizes=split_records.sizes, cameras=st.sampled_from([2, 3]), seed=st.integers(0, 9))
def test_every_held_out_query_has_a_match_from_another_camera(sizes, cameras, seed):
    records = split_records.records_of_sizes([*sizes, 3, 3], cameras)
    applied = apply_split(records, hold_out_identities(records, query_images=3, seed=seed))

    gallery = {(record.identity, record.camera) for record in records_of(applied, "val_gallery")}
    for query in records_of(applied, "val_query"):
        other_cameras = set(range(cameras)) - {query.camera}
        assert any((query.identity, camera) in gallery for camera in other_cameras)


def test_an_identity_of_a_single_camera_is_not_held_out():
    single_camera = [ImageRecord(f"{n}.jpg", n // 2, camera=0) for n in range(8)]
    two_cameras = [ImageRecord("x.jpg", 9, camera=0), ImageRecord("y.jpg", 9, camera=1)]

    records = [*single_camera, *two_cameras]
    applied = apply_split(records, hold_out_identities(records))
    assert {record.identity for record in applied if record.split != "train"} == {9}


def test_too_few_suitable_identities_are_refused():
    single_camera = [ImageRecord(f"{n}.jpg", n // 2, camera=0) for n in range(8)]

    text = r"expected 1 identities with images from two cameras .*, got 0\. Hold out fewer"
    with pytest.raises(ValueError, match=f"hold_out_identities: {text}"):
        hold_out_identities(single_camera)
