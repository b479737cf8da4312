from collections import Counter

import pytest
import split_records
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, split_query_gallery


@given(
    sizes=split_records.sizes,
    gallery_images=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_a_draw_has_gallery_images_of_each_identity_and_queries_of_the_rest(
    sizes, gallery_images, seed
):
    sizes = [*sizes, 6]
    manifest = split_query_gallery(
        split_records.records_of_sizes(sizes),
        num_splits=3,
        gallery_images=gallery_images,
        seed=seed,
    )
    expected = {identity: min(size, gallery_images) for identity, size in enumerate(sizes)}

    for number in range(3):
        query = manifest.splits[f"query{number}"]
        gallery = manifest.splits[f"gallery{number}"]
        assert Counter(split_records.identity_of(key) for key in gallery) == expected
        assert len({*query, *gallery}) == len(query) + len(gallery) == sum(sizes)


def test_parts_are_named_by_number():
    manifest = split_query_gallery(split_records.records_of_sizes([3]), num_splits=2)

    assert list(manifest.splits) == ["query0", "gallery0", "query1", "gallery1"]


def test_distractors_are_in_every_gallery_and_in_no_query():
    distractors = [ImageRecord("d/x/1.jpg", 77), ImageRecord("d/x/2.jpg", 77)]
    manifest = split_query_gallery(
        split_records.records_of_sizes([3, 3]), distractors=distractors, num_splits=2
    )

    keys = {"x/1.jpg", "x/2.jpg"}
    for number in range(2):
        assert keys <= set(manifest.splits[f"gallery{number}"])
        assert not keys & set(manifest.splits[f"query{number}"])


def test_distractors_need_other_identities():
    text = "1 identities of the distractors are tested, such as 0"

    with pytest.raises(ValueError, match=f"split_query_gallery: {text}"):
        split_query_gallery(
            split_records.records_of_sizes([3, 3]), distractors=[ImageRecord("d/x/1.jpg", 0)]
        )


def test_single_images_leave_no_query():
    with pytest.raises(ValueError, match="2 images of 2 identities leave no image for 'query0'"):
        split_query_gallery(split_records.records_of_sizes([1, 1]), num_splits=1)


@pytest.mark.unhooked
@pytest.mark.parametrize("name", ["num_splits", "gallery_images"])
@pytest.mark.parametrize("value", [0, "1", None])
def test_impossible_numbers_are_refused(name, value):
    text = f"split_query_gallery: expected {name} as a whole number >= 1"

    with pytest.raises(ValueError, match=text):
        split_query_gallery(split_records.records_of_sizes([3]), **{name: value})
