import pytest
import trees

from clipreid_kit.data import check_splits, read_msmt17


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_and_the_switch(tmp_path, version):
    base = trees.msmt17(tmp_path, version)
    merged = read_msmt17(base, merge_val=True, counts="ignore")
    assert [(r.identity, r.camera, r.split) for r in merged] == [
        ("train/0", 1, "train"),
        ("train/1", 15, "train"),
        ("train/0", 12, "train"),
        ("test/0", 7, "query"),
        ("test/0", 8, "gallery"),
        ("test/1", 8, "gallery"),
    ]
    apart = read_msmt17(base, merge_val=False, counts="ignore")
    assert [r.split for r in apart] == ["train", "train", "val", "query", "gallery", "gallery"]
    assert [r.path for r in apart] == [r.path for r in merged]
    check_splits(merged, min_images=1)  # labels begin at 0 twice, but these are different persons


def test_official_numbers_follow_the_switch(tmp_path):
    base = trees.msmt17(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"train: 3 images of 2 identities, officially 32621 images of 1041 identities; q",
    ):
        read_msmt17(base, merge_val=True, counts="raise")
    with pytest.raises(
        ValueError,
        match=r"officially 30248 .*; val: 1 images of 1 identities, officially 2373 images; q",
    ):
        read_msmt17(base, merge_val=False, counts="raise")


def test_the_switch_has_no_default(tmp_path):
    with pytest.raises(TypeError, match="merge_val"):
        read_msmt17(trees.msmt17(tmp_path))


@pytest.mark.parametrize(
    "row", ["0000/a.jpg 0", "0000/0000_000_01_x.jpg", "0000/0000_000_01_x.jpg zero"]
)
def test_a_row_that_is_none_is_named(tmp_path, row):
    base = trees.msmt17(tmp_path)
    trees.write(base, "list_val.txt", f"\n{row}\n")
    with pytest.raises(
        ValueError, match=rf"rows of <folder>/.* in list_val\.txt, got '{row}' in row 2"
    ):
        read_msmt17(base, merge_val=True)
