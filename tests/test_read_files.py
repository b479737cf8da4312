import gc
import os
import socket
import struct
import warnings
import zipfile

import numpy as np
import pytest

from clipreid_kit import _read_files
from clipreid_kit._read_files import (
    InvalidJsonError,
    UnusableFileError,
    identity_of_file,
    load_array,
    map_array,
    open_archive,
    open_file,
    parse_json,
    read_bytes,
    read_json,
    read_member,
    read_text,
)

posix = pytest.mark.skipif(os.name != "posix", reason="no pipes and devices in folders")


def make_fifo(path):
    os.mkfifo(path)
    return path


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


class TestOnlyRegularFiles:
    @posix
    @pytest.mark.parametrize(
        "read", [open_file, read_bytes, read_text, read_json, open_archive, map_array]
    )
    def test_a_pipe_is_refused_and_nothing_waits_for_its_writer(self, tmp_path, read):
        with pytest.raises(UnusableFileError, match=r"a named pipe \(FIFO\), not a regular file"):
            read(make_fifo(tmp_path / "a.jpg"))

    @posix
    def test_a_device_is_refused(self):
        with pytest.raises(UnusableFileError, match="it is a device, not a regular file"):
            read_bytes("/dev/zero")

    @posix
    def test_a_socket_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # addresses of sockets are short
        with pytest.raises(OSError, match="No such device"):
            read_bytes(make_socket("a.jpg"))

    def test_a_folder_is_refused(self, tmp_path):
        with pytest.raises((IsADirectoryError, PermissionError)):
            read_bytes(tmp_path)

    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "a").write_bytes(b"content")
        (tmp_path / "b").symlink_to("a")
        assert read_bytes(tmp_path / "b") == b"content"


class TestLimits:
    def test_a_file_is_refused_before_it_is_read(self, tmp_path):
        with (tmp_path / "a.jpg").open("wb") as sparse:
            sparse.truncate(8 << 30)

        with pytest.raises(UnusableFileError, match="it has 8589934592 bytes, more than the limit"):
            read_bytes(tmp_path / "a.jpg")

    def test_a_file_at_the_limit_is_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_read_files, "MAX_BYTES", 3)
        (tmp_path / "a").write_bytes(b"abc")
        (tmp_path / "b").write_bytes(b"abcd")

        assert read_bytes(tmp_path / "a") == b"abc"
        with pytest.raises(UnusableFileError, match="4 bytes"):
            read_bytes(tmp_path / "b")

    def test_a_member_is_refused_before_it_is_unpacked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_read_files, "MAX_BYTES", 1000)
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr("a.txt", bytes(1001))

        with (
            open_archive(tmp_path / "a.zip") as archive,
            pytest.raises(UnusableFileError, match="it unpacks to 1001 bytes, more than"),
        ):
            read_member(archive, "a.txt")


class TestJson:
    @pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "a": 1}}]'])
    def test_a_repeated_key_is_refused(self, text):
        with pytest.raises(InvalidJsonError, match="'a' more than once in an object"):
            parse_json(text)

    def test_one_repeated_key_among_many_is_found_at_once(self):
        keys = [f'"{number}": 1' for number in range(60_000)]
        with pytest.raises(InvalidJsonError, match="'7' more than once"):
            parse_json("{" + ", ".join([*keys, '"7": 1']) + "}")

    @pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
    @pytest.mark.parametrize("depth", [101, 100_000])
    def test_deep_nesting_is_refused(self, opening, closing, depth):
        with pytest.raises(InvalidJsonError, match="nested more than 100 levels deep"):
            parse_json(opening * depth + "1" + closing * depth)

    def test_nesting_up_to_the_limit_is_read(self):
        assert parse_json("[" * 99 + "]" * 99)

    def test_an_integer_of_many_digits_is_refused(self):
        with pytest.raises(InvalidJsonError, match=r"limit .* for integer string conversion"):
            parse_json("9" * 5000)

    def test_a_file_with_a_byte_order_mark_is_read(self, tmp_path):
        (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
        assert read_json(tmp_path / "a.json") == {"a": 1}


class TestArchives:
    def pack(self, path, content=b"text" * 100):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr("a.txt", content)
        return path

    def set_encrypted(self, path):
        content = bytearray(path.read_bytes())
        content[6] |= 1  # the flags of the member
        content[content.index(b"PK\x01\x02") + 8] |= 1  # and of its entry in the directory
        path.write_bytes(content)

    def test_an_encrypted_member_is_refused(self, tmp_path):
        self.set_encrypted(self.pack(tmp_path / "a.zip"))
        with (
            open_archive(tmp_path / "a.zip") as archive,
            pytest.raises(UnusableFileError, match="it is encrypted"),
        ):
            read_member(archive, "a.txt")

    def test_a_damaged_member_is_refused(self, tmp_path):
        path = self.pack(tmp_path / "a.zip")
        content = bytearray(path.read_bytes())
        content[38] ^= 255
        path.write_bytes(content)

        with (
            open_archive(path) as archive,
            pytest.raises(UnusableFileError, match=r"(error|BadZipFile): "),
        ):
            read_member(archive, "a.txt")

    def test_closing_an_archive_closes_its_file(self, tmp_path):
        archive = open_archive(self.pack(tmp_path / "a.zip"))
        stream = archive.fp
        archive.close()
        assert stream.closed

    def test_an_archive_in_a_circle_closes_its_file(self, tmp_path):
        archive = open_archive(self.pack(tmp_path / "a.zip"))
        archive.circle = [archive]
        del archive
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
        assert not [each for each in caught if each.category is ResourceWarning]


class TestArrays:
    def test_an_array_of_a_file_is_loaded(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.arange(3))
        assert load_array(tmp_path / "a.npz", "x").tolist() == [0, 1, 2]

    def test_an_encrypted_array_is_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.arange(3))
        TestArchives().set_encrypted(tmp_path / "a.npz")
        with pytest.raises(UnusableFileError, match="encrypted"):
            load_array(tmp_path / "a.npz", "x")

    def test_objects_are_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
        with pytest.raises(UnusableFileError, match="allow_pickle"):
            load_array(tmp_path / "a.npz", "x")

    def test_a_damaged_header_is_refused(self, tmp_path):
        (tmp_path / "a.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + struct.pack("<H", 9) + b"{'descr'\n"
        )
        with pytest.raises(UnusableFileError, match="EOF in multi-line"):
            map_array(tmp_path / "a.npy")


def test_a_file_of_equal_size_and_time_is_another(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"old")
    os.utime(path, ns=(10, 10))
    before = identity_of_file(path)

    (tmp_path / "new").write_bytes(b"new")
    os.utime(tmp_path / "new", ns=(10, 10))
    (tmp_path / "new").replace(path)

    assert identity_of_file(path) != before
