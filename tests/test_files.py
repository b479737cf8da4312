import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipreid_kit._files import (
    append_line,
    check_creatable,
    check_replaceable,
    error_line,
    replaced_file,
    write_whole,
)


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


def names_in(folder):
    return [file.name for file in folder.iterdir()]


posix = pytest.mark.skipif(os.name != "posix", reason="no pipes and devices in folders")


class TestTargets:
    def test_a_link_stays_and_what_it_leads_to_is_replaced(self, tmp_path):
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "a.csv").write_bytes(b"old")
        (tmp_path / "link.csv").symlink_to("there/a.csv")
        write_whole(tmp_path / "link.csv", b"new")

        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "there" / "a.csv").read_bytes() == b"new"
        assert [file.name for file in (tmp_path / "there").iterdir()] == ["a.csv"]

    def test_a_link_to_nothing_yet_is_followed(self, tmp_path):
        (tmp_path / "link.csv").symlink_to("a.csv")
        write_whole(tmp_path / "link.csv", b"new")
        assert (tmp_path / "a.csv").read_bytes() == b"new"

    def test_a_circle_of_links_is_left(self, tmp_path):
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(OSError, match="symbolic links"):
            write_whole(tmp_path / "a", b"new")
        assert (tmp_path / "a").is_symlink()

    def test_a_folder_is_left(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(IsADirectoryError):
            write_whole(tmp_path / "a", b"new")
        assert names_in(tmp_path) == ["a"]

    @posix
    def test_a_device_is_written_to_and_left(self):
        write_whole(Path("/dev/null"), b"new")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
    def test_a_full_device_is_an_error_and_left(self):
        with pytest.raises(OSError, match="No space left"):
            write_whole(Path("/dev/full"), b"new")
        assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)

    @posix
    def test_a_pipe_is_written_to_and_left(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            write_whole(tmp_path / "pipe", b"new")
            assert os.read(reader, 10) == b"new"
        finally:
            os.close(reader)
        assert (tmp_path / "pipe").is_fifo()

    @posix
    def test_a_pipe_without_a_reader_is_an_error_and_nothing_waits(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="No such device"):
            write_whole(tmp_path / "pipe", b"new")
        assert (tmp_path / "pipe").is_fifo()

    def test_the_longest_name_is_written(self, tmp_path):
        write_whole(tmp_path / ("\u00e9" * 127), b"new")
        assert names_in(tmp_path) == ["\u00e9" * 127]


def test_writers_in_one_process_do_not_share_a_temporary_name(tmp_path):
    path = tmp_path / "a.bin"
    contents = [bytes([number]) * 100_000 for number in range(4)]

    def write(content):
        for _ in range(20):
            write_whole(path, content, flush=False)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, contents))
    assert names_in(tmp_path) == ["a.bin"]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write_half():
        with replaced_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()

    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.bin"]


def test_a_new_file_keeps_the_permissions_of_the_old_one(tmp_path):
    path = tmp_path / "private.csv"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_are_appended_whole(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, b"one")
    append_line(path, b"two")
    assert path.read_bytes() == b"one\ntwo\n"

    path.write_bytes(b"one\nhal")  # a kill while a line was written
    append_line(path, b"two")
    assert path.read_bytes() == b"one\nhal\ntwo\n"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_new_file_of_lines_is_private(tmp_path):
    append_line(tmp_path / "lines.jsonl", b"one")
    assert stat.S_IMODE((tmp_path / "lines.jsonl").stat().st_mode) == 0o600


class TestErrors:
    def test_name_the_file_and_not_the_temporary_one(self, tmp_path):
        path = tmp_path / "a.bin"
        with pytest.raises(FileNotFoundError) as caught, replaced_file(path) as temporary:
            temporary.open()

        assert caught.value.filename == str(path)
        assert error_line(caught.value) == f"{path}: No such file or directory."

    def test_say_what_is_wrong_with_the_place(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        for path, reason in {
            tmp_path: "it is a folder; name a file",
            tmp_path / "no" / "a": f"there is no folder {tmp_path / 'no'}; create it first",
            tmp_path / "file" / "a": f"{tmp_path / 'file'} is a file, and no folder",
        }.items():
            for write in (check_replaceable, lambda path: write_whole(path, b"")):
                with pytest.raises(OSError, match=re.escape(reason)) as caught:
                    write(path)
                assert error_line(caught.value) == f"{path}: {reason}."

        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(PermissionError, match="you may not write to the folder"):
            check_replaceable(tmp_path / "a")

    def test_a_folder_can_be_made_below_one_that_is_there(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        check_creatable(tmp_path)
        check_creatable(tmp_path / "a" / "b")
        with pytest.raises(NotADirectoryError, match="file is a file, and no folder"):
            check_creatable(tmp_path / "file" / "a")

        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(PermissionError, match="you may not write to"):
            check_creatable(tmp_path / "a")

    @posix
    def test_a_stream_is_a_place_to_write_to(self):
        check_replaceable(Path(os.devnull))
