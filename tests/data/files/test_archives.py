import multiprocessing
import os
import re
import zipfile

import pytest

from clipreid_kit.data import ImageRecord, check_files
from clipreid_kit.data.files.archives import open_archive, read_bytes, split_member


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as pack:
        for number in range(50):
            pack.writestr(f"in/{number}.bin", bytes([number]) * 10_000)
    return path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.jpg", ("a/b.jpg", None)),
        ("a/b.zip::c/d.jpg", ("a/b.zip", "c/d.jpg")),
        ("a/B.ZIP::c::d.jpg", ("a/B.ZIP", "c::d.jpg")),
        ("a::b.jpg", ("a::b.jpg", None)),
        ("a.zip", ("a.zip", None)),
    ],
)
def test_split_member(path, expected):
    assert split_member(path) == expected


def test_read_bytes_of_files_and_members(archive, tmp_path):
    (tmp_path / "plain.bin").write_bytes(b"plain")
    assert read_bytes("test", tmp_path / "plain.bin") == b"plain"
    assert read_bytes("test", f"{archive}::in/3.bin") == b"\x03" * 10_000


def test_an_archive_is_opened_once_and_again_after_a_change(archive):
    first = open_archive(str(archive))
    assert open_archive(str(archive)) is first
    with zipfile.ZipFile(archive, "a") as pack:
        pack.writestr("new.bin", b"new")
    assert read_bytes("test", f"{archive}::new.bin") == b"new"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_readers_do_not_disturb_each_other(archive):
    expected = [bytes([number]) * 10_000 for number in range(50)]
    names = [f"{archive}::in/{number}.bin" for number in range(50)] * 4
    read_bytes("test", names[0])  # the parent's handle is open when it forks
    with multiprocessing.get_context("fork").Pool(2) as pool:
        contents = pool.starmap(read_bytes, [("test", name) for name in names], chunksize=1)
    assert contents == expected * 4


def _flip_last_data_byte(path):
    content = bytearray(path.read_bytes())
    content[60] ^= 255  # inside the first member's data
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("none.jpg", "expected an existing image file, got no file at .*none.jpg"),
        (".", "IsADirectoryError|PermissionError"),
        ("none.zip::a.jpg", "got no file at .*none.zip"),
        (
            "pack.zip::in/99.bin",
            "expected the archive member in/99.bin, got an archive without it: .*pack.zip",
        ),
        (
            "damaged.zip::in/0.bin",
            "expected to read .*damaged.zip::in/0.bin, got BadZipFile: Bad CRC",
        ),
        ("deflated.zip::a.bin", "expected to read .*deflated.zip::a.bin, got (error|BadZipFile)"),
        (
            "text.zip::a.jpg",
            "expected to read .*text.zip::a.jpg, got BadZipFile: File is not a zip file",
        ),
        ("nul\0.jpg", "expected to read .*null"),
    ],
)
def test_unreadable_files_are_named(archive, tmp_path, path, problem):
    (tmp_path / "text.zip").write_text("not an archive")
    (tmp_path / "damaged.zip").write_bytes(archive.read_bytes())
    _flip_last_data_byte(tmp_path / "damaged.zip")
    with zipfile.ZipFile(tmp_path / "deflated.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("a.bin", os.urandom(100) * 9)
    _flip_last_data_byte(tmp_path / "deflated.zip")
    with pytest.raises(ValueError, match=f"test: .*(?:{problem}).*") as caught:
        read_bytes("test", f"{tmp_path}/{path}")
    assert str(caught.value).endswith((".", "again."))


def test_a_member_that_would_fill_the_memory_is_refused_before_it_is_unpacked(
    tmp_path, monkeypatch
):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("a.png", bytes(1001))
        pack.writestr("b.png", bytes(1000))
    monkeypatch.setattr("clipreid_kit.data.files.archives._LARGEST", 1000)
    with pytest.raises(
        ValueError,
        match=r"test: expected an archive member of at most 1000 bytes, got 1001 bytes: .*a\.png",
    ):
        read_bytes("test", f"{tmp_path}/bomb.zip::a.png")
    assert read_bytes("test", f"{tmp_path}/bomb.zip::b.png") == bytes(1000)


def test_check_files_passes_files_and_members(archive, tmp_path):
    (tmp_path / "a.jpg").touch()
    check_files([ImageRecord(str(tmp_path / "a.jpg"), 1), ImageRecord(f"{archive}::in/0.bin", 1)])
    check_files([])


def test_check_files_counts_what_is_missing_and_names_three(archive, tmp_path):
    missing = [
        f"{archive}::no.jpg",
        f"{tmp_path}/no.zip::a.jpg",
        f"{tmp_path}",
        f"{tmp_path}/no.jpg",
    ]
    records = [ImageRecord(path, 1) for path in [f"{archive}::in/0.bin", *missing]]
    with pytest.raises(
        ValueError, match="check_files: expected a file for each of 5 records"
    ) as caught:
        check_files(records)
    assert f"got 4 missing: {', '.join(missing[:3])}, ...." in str(caught.value)


def test_check_files_names_a_broken_archive(tmp_path):
    (tmp_path / "text.zip").write_text("not an archive")
    with pytest.raises(
        ValueError, match=re.escape(f"expected {tmp_path}/text.zip to be a zip archive")
    ):
        check_files([ImageRecord(f"{tmp_path}/text.zip::a.jpg", 1)])
