import os

import pytest

from clipreid_kit._files import write_whole


@pytest.mark.parametrize("flush", [True, False])
def test_replaces_in_one_step(tmp_path, flush):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    write_whole(path, b"new", flush=flush)

    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.bin", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.exists()))
    write_whole(path, b"new")

    assert seen == ([False, True] if os.name == "posix" else [False])  # the file, then the folder


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")

    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]
