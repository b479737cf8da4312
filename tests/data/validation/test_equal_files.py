import zipfile

import pytest

from clipreid_kit.data.validation import equal_files
from clipreid_kit.data.validation.equal_files import group_equal_files


def write(folder, name, content):
    file = folder / name
    file.write_bytes(content)
    return str(file)


def test_equal_files_are_grouped_in_their_order(tmp_path):
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"three", "e": b"two"}
    paths = [write(tmp_path, name, content) for name, content in contents.items()]

    assert group_equal_files(paths) == [[paths[0], paths[2]], [paths[1], paths[4]]]


def test_members_of_archives_are_compared_with_files(tmp_path):
    file = write(tmp_path, "a", b"one")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("in.bin", b"one")
    member = f"{tmp_path}/b.zip::in.bin"

    assert group_equal_files([file, member]) == [[file, member]]


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    def fail(owner, path):
        raise AssertionError(f"read {path}")

    paths = [write(tmp_path, "a", b"one"), write(tmp_path, "b", b"three")]
    monkeypatch.setattr(equal_files, "read_bytes", fail)

    assert group_equal_files(paths) == []


@pytest.mark.parametrize("name", ["none", "none.zip::a"])
def test_files_that_cannot_be_read_are_left_out(tmp_path, name):
    paths = [write(tmp_path, "a", b"one"), write(tmp_path, "b", b"one")]
    assert group_equal_files([f"{tmp_path}/{name}", *paths]) == [paths]
