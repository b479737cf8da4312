import pytest
import trees

from clipreid_kit.data import apply_split, read_vehicleid, records_of, split_query_gallery


def test_the_lists_are_training_and_test(tmp_path):
    records = read_vehicleid(trees.vehicleid(tmp_path), counts="ignore")

    assert [(record.identity, record.split) for record in records] == [
        (17, "train"),
        (17, "train"),
        (4, "test"),
        (4, "test"),
        (9, "test"),
    ]
    assert all(record.camera is None for record in records)


def test_another_test_list_can_be_read(tmp_path):
    base = trees.vehicleid(tmp_path)
    records = read_vehicleid(base, test_identities=1600, counts="ignore")

    (record,) = records_of(records, "test")
    assert record.path.endswith("0000006.jpg")


def test_the_protocol_draws_one_gallery_image(tmp_path):
    test = records_of(read_vehicleid(trees.vehicleid(tmp_path), counts="ignore"), "test")
    drawn = apply_split(test, split_query_gallery(test, num_splits=3))

    for number in range(3):
        gallery = records_of(drawn, f"gallery{number}")
        query = records_of(drawn, f"query{number}")
        assert sorted(record.identity for record in gallery) == [4, 9]
        assert [record.identity for record in query] == [4]


def test_the_number_of_test_identities_is_checked(tmp_path):
    message = (
        r"officially 113346 .*; test has 3 images of 2 identities, officially 800 identities\."
    )
    with pytest.raises(ValueError, match=message):
        read_vehicleid(trees.vehicleid(tmp_path), counts="raise")


@pytest.mark.unhooked
def test_an_unknown_test_list_is_an_error(tmp_path):
    message = "test_identities to be one of 800, 1600, .*, got '801'"
    with pytest.raises(ValueError, match=message):
        read_vehicleid(trees.vehicleid(tmp_path), test_identities=801)


@pytest.mark.parametrize("row", ["0000001", "0000001 17 3", "0000001 red"])
def test_a_row_of_another_form_is_named(tmp_path, row):
    base = trees.vehicleid(tmp_path)
    trees.write(base, "train_test_split/train_list.txt", f"{row}\n")

    message = rf"row 1 of .*train_list\.txt is '{row}'; expected <image> <vehicle>"
    with pytest.raises(ValueError, match=message):
        read_vehicleid(base)
