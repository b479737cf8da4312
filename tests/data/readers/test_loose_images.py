"""Every image below a folder, in the order of paths."""

import pytest

from clipreid_kit.data import read_images


def test_folders_are_identities(tmp_path):
    for name in ("b.jpg", "a/2.PNG", "a/c/1.jpeg", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    records = read_images(tmp_path)
    assert [(record.path, record.identity) for record in records] == [
        (str(tmp_path / "a" / "2.PNG"), "a"),
        (str(tmp_path / "a" / "c" / "1.jpeg"), "a/c"),
        (str(tmp_path / "b.jpg"), "."),
    ]


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"none of the 1 files in .* is an image"):
        read_images(tmp_path)


def test_images_that_are_not_read_are_named(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jxl").touch()
    with pytest.warns(UserWarning, match=r"b\.jxl"):
        assert len(read_images(tmp_path)) == 1
