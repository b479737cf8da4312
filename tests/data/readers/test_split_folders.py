"""A folder and its zip archive have the same splits."""

import zipfile

import pytest

from clipreid_kit.data import find_split_folders, read_folder

NAMES = ("train", "query", "gallery", "val_query", "val")


def build(root, splits, top=""):
    """A folder with splits, and the same below ``top`` in a zip archive."""
    files = [f"{split}/rex/{number}.jpg" for split in splits for number in range(2)]
    for name in files:
        (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "set" / name).touch()
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for name in files:
            archive.writestr(f"{top}{name}", "")
    return root / "set", root / "set.zip"


@pytest.mark.parametrize("top", ["", "set/", "my/set/"])
@pytest.mark.parametrize("splits", [("train", "query", "gallery"), ("val", "train"), ("other",)])
def test_an_archive_has_the_splits_of_its_folder(tmp_path, splits, top):
    folder, archive = build(tmp_path, splits, top)
    expected = [name for name in NAMES if name in splits]
    assert find_split_folders(folder, NAMES) == expected
    assert find_split_folders(archive, NAMES) == expected


def test_the_splits_are_those_that_are_read(tmp_path):
    folder, archive = build(tmp_path, ("train", "train/train", "query"), "set/")
    for root in (folder, archive):
        splits = find_split_folders(root, NAMES)
        assert {record.split for record in read_folder(root, splits=splits)} == {"train", "query"}


def test_nothing_there_has_no_splits(tmp_path):
    (tmp_path / "a.csv").touch()
    assert find_split_folders(tmp_path / "no", NAMES) == []
    assert find_split_folders(tmp_path / "a.csv", NAMES) == []


def test_a_damaged_archive_is_an_error(tmp_path):
    (tmp_path / "a.zip").write_text("no archive")
    with pytest.raises(ValueError, match=r"find_split_folders: cannot read .*a\.zip"):
        find_split_folders(tmp_path / "a.zip", NAMES)


def test_a_folder_that_is_nearly_a_missing_split_is_named(tmp_path):
    for root in build(tmp_path, ("train", "Val_Query")):
        with pytest.warns(UserWarning, match=r"'Val_Query' is not read; .* split 'val_query'"):
            assert find_split_folders(root, NAMES) == ["train"]
