import pytest
import trees

from clipreid_kit.data import apply_split, read_vehicleid, records_of, split_query_gallery


def test_lists_become_train_and_test(tmp_path):
    records = read_vehicleid(trees.vehicleid(tmp_path), counts="ignore")
    assert [(r.identity, r.split, r.camera) for r in records] == [
        (17, "train", None), (17, "train", None), (4, "test", None), (4, "test", None), (9, "test", None),
    ]  # fmt: skip
    (other,) = records_of(
        read_vehicleid(trees.vehicleid(tmp_path), test_identities=1600, counts="ignore"), "test"
    )
    assert other.path.endswith("0000006.jpg")


def test_the_protocol_is_a_draw_of_one_gallery_image(tmp_path):
    test = records_of(read_vehicleid(trees.vehicleid(tmp_path), counts="ignore"), "test")
    drawn = apply_split(test, split_query_gallery(test, num_splits=3))
    for number in range(3):
        assert sorted(r.identity for r in records_of(drawn, f"gallery{number}")) == [4, 9]
        assert [r.identity for r in records_of(drawn, f"query{number}")] == [4]


def test_the_number_of_test_identities_is_checked(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"officially 113346 .*; test: 3 images of 2 identities, officially 800 identities\.",
    ):
        read_vehicleid(trees.vehicleid(tmp_path), counts="raise")


@pytest.mark.unhooked
def test_another_test_list(tmp_path):
    with pytest.raises(ValueError, match=r"test_identities to be one of 800, 1600, .*, got '801'"):
        read_vehicleid(trees.vehicleid(tmp_path), test_identities=801)


@pytest.mark.parametrize("row", ["0000001", "0000001 17 3", "0000001 red"])
def test_a_row_that_is_none_is_named(tmp_path, row):
    base = trees.vehicleid(tmp_path)
    trees.write(base, "train_test_split/train_list.txt", f"{row}\n")
    with pytest.raises(
        ValueError, match=rf"rows of <image> <vehicle> in .*train_list\.txt, got '{row}' in row 1"
    ):
        read_vehicleid(base)
