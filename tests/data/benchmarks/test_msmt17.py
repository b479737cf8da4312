import pytest
import trees

from clipreid_kit.data import check_splits, read_msmt17


@pytest.mark.parametrize("version", [1, 2])
def test_validation_images_are_merged_into_training(tmp_path, version):
    records = read_msmt17(trees.msmt17(tmp_path, version), merge_val=True, counts="ignore")

    assert [(record.identity, record.camera, record.split) for record in records] == [
        ("train/0", 1, "train"),
        ("train/1", 15, "train"),
        ("train/0", 12, "train"),
        ("test/0", 7, "query"),
        ("test/0", 8, "gallery"),
        ("test/1", 8, "gallery"),
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_validation_images_are_a_split_of_their_own(tmp_path, version):
    base = trees.msmt17(tmp_path, version)
    records = read_msmt17(base, merge_val=False, counts="ignore")
    merged = read_msmt17(base, merge_val=True, counts="ignore")

    splits = ["train", "train", "val", "query", "gallery", "gallery"]
    assert [record.split for record in records] == splits
    assert [record.path for record in records] == [record.path for record in merged]


def test_equal_labels_in_training_and_test_are_different_persons(tmp_path):
    records = read_msmt17(trees.msmt17(tmp_path), merge_val=True, counts="ignore")
    check_splits(records, min_images=1)


@pytest.mark.parametrize(
    ("merge_val", "message"),
    [
        (True, "train has 3 images of 2 identities, officially 32621 images of 1041 identities; q"),
        (
            False,
            "officially 30248 .*; val has 1 images of 1 identities, officially 2373 images; q",
        ),
    ],
)
def test_official_numbers_depend_on_merge_val(tmp_path, merge_val, message):
    with pytest.raises(ValueError, match=message):
        read_msmt17(trees.msmt17(tmp_path), merge_val=merge_val, counts="raise")


def test_merge_val_has_no_default(tmp_path):
    with pytest.raises(TypeError, match="merge_val"):
        read_msmt17(trees.msmt17(tmp_path))


@pytest.mark.parametrize(
    "row", ["0000/a.jpg 0", "0000/0000_000_01_x.jpg", "0000/0000_000_01_x.jpg zero"]
)
def test_a_row_of_another_form_is_named(tmp_path, row):
    base = trees.msmt17(tmp_path)
    trees.write(base, "list_val.txt", f"\n{row}\n")

    with pytest.raises(ValueError, match=rf"row 2 of list_val\.txt is '{row}'; expected <folder>/"):
        read_msmt17(base, merge_val=True)
