import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.data.manifests._image_keys import (
    draw_images,
    images_of,
    keys_except,
    keys_of,
    shuffled,
    sort_identities,
)


def _records(*paths):
    return [ImageRecord(path, 1) for path in paths]


def test_keys_begin_below_the_deepest_common_folder():
    assert keys_of("test", _records("d/a/1.jpg", "d/b/2.jpg"), None) == ["a/1.jpg", "b/2.jpg"]
    assert keys_of("test", _records("d/a/1.jpg"), None) == ["1.jpg"]
    assert keys_of("test", _records("d.zip::a/1.jpg", "d.zip::b/2.jpg"), None) == [
        "a/1.jpg",
        "b/2.jpg",
    ]


def test_keys_are_relative_to_a_given_root():
    assert keys_of("test", _records("d/a/1.jpg"), "d") == ["a/1.jpg"]
    assert keys_of("test", _records("d/a/1.jpg"), "./d") == ["a/1.jpg"]


def test_images_are_grouped_by_sorted_identity():
    records = [ImageRecord("b.jpg", 10), ImageRecord("a.jpg", 9), ImageRecord("c.jpg", 10)]
    images = images_of("test", records, None)

    assert {identity: list(group) for identity, group in images.items()} == {
        9: ["a.jpg"],
        10: ["b.jpg", "c.jpg"],
    }
    assert list(images) == [9, 10]


def test_an_image_of_several_records_counts_once():
    assert len(images_of("test", _records("a.jpg", "a.jpg"), None)[1]) == 1


def test_an_image_of_two_identities_is_refused():
    records = [ImageRecord("a/1.jpg", 1), ImageRecord("a/1.jpg", 2)]

    with pytest.raises(ValueError, match=r"test: a/1\.jpg has two identities, 1 and 2"):
        images_of("test", records, None)


def test_identities_of_two_types_are_refused():
    records = [ImageRecord("a/1.jpg", 1), ImageRecord("a/2.jpg", "1")]

    text = "test: expected all identities as integers or all as strings, got int and str"
    with pytest.raises(ValueError, match=text):
        images_of("test", records, None)


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="test: there are no records to split"):
        images_of("test", [], None)


def test_some_images_may_be_excluded():
    images = images_of("test", _records("a.jpg", "b.jpg"), None)

    assert keys_except(images, {"a.jpg"}) == ["b.jpg"]


def test_identities_are_sorted_as_integers_or_as_strings():
    assert sort_identities([10, 9, 100]) == [9, 10, 100]
    assert sort_identities(["10", "9", "100"]) == ["10", "100", "9"]


def test_the_order_depends_on_seed_and_purpose():
    names = [str(number) for number in range(20)]

    assert sorted(shuffled(names, 0, "a")) == sorted(names)
    assert shuffled(names, 0, "a") != shuffled(names, 1, "a")
    assert shuffled(names, 0, "a") != shuffled(names, 0, "b")


def test_a_name_keeps_its_rank_whatever_other_names_there_are():
    names = [str(number) for number in range(20)]
    some = names[::3]

    assert [name for name in shuffled(names, 0, "a") if name in some] == shuffled(some, 0, "a")


def test_some_images_of_each_identity_are_drawn():
    records = [ImageRecord(f"{number}.jpg", number // 3) for number in range(7)]
    images = images_of("test", records, None)

    assert len(draw_images(images, 2, 0, "a")) == 2 + 2 + 1
