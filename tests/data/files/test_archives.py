import multiprocessing
import os
import pickle
import re
import zipfile

import pytest

from clipreid_kit.data import ImageRecord, check_files
from clipreid_kit.data.files.archives import (
    UnreadableFileError,
    open_archive,
    read_bytes,
    split_member,
    unreadable,
)


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


def test_read_bytes_of_a_file(tmp_path):
    (tmp_path / "plain.bin").write_bytes(b"plain")
    assert read_bytes("test", tmp_path / "plain.bin") == b"plain"


def test_read_bytes_of_a_member(archive):
    assert read_bytes("test", f"{archive}::in/3.bin") == b"\x03" * 10_000


def test_an_archive_is_opened_once(archive):
    first = open_archive(str(archive))
    assert open_archive(str(archive)) is first


def test_an_archive_is_opened_again_after_a_change(archive):
    open_archive(str(archive))
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


def flip_a_data_byte(path):
    content = bytearray(path.read_bytes())
    content[60] ^= 255  # inside the data of the first member
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.jpg", "there is no such file"),
        (".", "(IsADirectory|Permission)Error"),
        ("none.zip::a.jpg", "there is no archive .*none.zip"),
        ("pack.zip::in/99.bin", "the archive has no such member"),
        ("damaged.zip::in/0.bin", "BadZipFile: Bad CRC"),
        ("deflated.zip::a.bin", "(error|BadZipFile)"),
        ("text.zip::a.jpg", "BadZipFile: File is not a zip file"),
        ("nul\0.jpg", "ValueError: .*null"),
    ],
)
def test_unreadable_files_are_named_with_the_reason(archive, tmp_path, path, reason):
    (tmp_path / "text.zip").write_text("not an archive")
    (tmp_path / "damaged.zip").write_bytes(archive.read_bytes())
    flip_a_data_byte(tmp_path / "damaged.zip")
    with zipfile.ZipFile(tmp_path / "deflated.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("a.bin", os.urandom(100) * 9)
    flip_a_data_byte(tmp_path / "deflated.zip")

    message = f"^test: cannot read {re.escape(f'{tmp_path}/{path}')}: {reason}"
    with pytest.raises(UnreadableFileError, match=message) as caught:
        read_bytes("test", f"{tmp_path}/{path}")

    assert re.match(reason, caught.value.reason)
    assert str(caught.value).endswith(".")


def test_the_error_survives_the_way_out_of_a_worker():
    error = unreadable("test", "a.jpg", "it is empty", "Restore it.")
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is UnreadableFileError
    assert str(copy) == "test: cannot read a.jpg: it is empty. Restore it."
    assert copy.reason == "it is empty"


def test_a_member_that_would_fill_the_memory_is_an_error_before_it_is_unpacked(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("clipreid_kit._read_files.MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("a.png", bytes(1001))
        pack.writestr("b.png", bytes(1000))

    message = r"test: cannot read .*a\.png: it unpacks to 1001 bytes, more than the limit of 1000"
    with pytest.raises(ValueError, match=message):
        read_bytes("test", f"{tmp_path}/bomb.zip::a.png")

    assert read_bytes("test", f"{tmp_path}/bomb.zip::b.png") == bytes(1000)


def test_check_files_accepts_files_and_members(archive, tmp_path):
    (tmp_path / "a.jpg").touch()
    check_files([ImageRecord(str(tmp_path / "a.jpg"), 1), ImageRecord(f"{archive}::in/0.bin", 1)])
    check_files([])


def test_check_files_counts_missing_files_and_names_three(archive, tmp_path):
    missing = [
        f"{archive}::no.jpg",
        f"{tmp_path}/no.zip::a.jpg",
        f"{tmp_path}",
        f"{tmp_path}/no.jpg",
    ]
    records = [ImageRecord(path, 1) for path in [f"{archive}::in/0.bin", *missing]]

    names = re.escape(", ".join(missing[:3]))
    message = rf"check_files: 4 of 5 image files are missing: {names}, \.\.\.\. Correct"
    with pytest.raises(ValueError, match=message):
        check_files(records)


def test_check_files_names_a_broken_archive(tmp_path):
    (tmp_path / "text.zip").write_text("not an archive")

    message = rf"check_files: cannot read {re.escape(str(tmp_path))}/text\.zip: BadZipFile"
    with pytest.raises(ValueError, match=message):
        check_files([ImageRecord(f"{tmp_path}/text.zip::a.jpg", 1)])


def test_an_archive_that_is_replaced_by_one_of_equal_size_and_time_is_read_again(tmp_path):
    path = tmp_path / "a.zip"
    for name, content in ((path, b"old"), (tmp_path / "b.zip", b"new")):
        with zipfile.ZipFile(name, "w") as pack:
            pack.writestr(zipfile.ZipInfo("a.bin"), content)
        os.utime(name, ns=(10**9, 10**9))
    assert read_bytes("test", f"{path}::a.bin") == b"old"

    (tmp_path / "b.zip").replace(path)
    assert read_bytes("test", f"{path}::a.bin") == b"new"


def test_an_error_of_a_worker_is_one_line_with_the_file():
    message = str(unreadable("test", "a.jpg", "it is empty", "Restore it."))
    from_worker = (
        "Caught UnreadableFileError in DataLoader worker process 0.\nOriginal Traceback (most "
        f"recent call last):\n  ...\nclipreid_kit.data.UnreadableFileError: {message}\n"
    )
    assert str(UnreadableFileError(from_worker)) == message


@pytest.mark.parametrize(
    ("there", "asked", "difference"),
    [
        ("b.jpg", "B.jpg", "'b.jpg', which differs in upper and lower case"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg", "which differs in the Unicode form of its accents"),
        ("a.jpg", " a.jpg", "'a.jpg', which differs in white space"),
        ("sub/a.jpg", "sub\\a.jpg", "write / for \\"),
        ("Sub/a.jpg", "sub/a.jpg", "'Sub', which differs in upper and lower case"),
        ("a\u200b.jpg", "a.jpg", "which differs in characters that look alike or are not seen"),
    ],
)
def test_a_near_file_is_named_with_what_differs(tmp_path, monkeypatch, there, asked, difference):
    monkeypatch.chdir(tmp_path)
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()

    for read in (lambda: read_bytes("test", asked), lambda: check_files([ImageRecord(asked, 1)])):
        with pytest.raises(ValueError, match=r"\(there is .*" + re.escape(difference)):
            read()


def test_a_near_member_is_named(archive):
    with pytest.raises(
        ValueError, match=r"no such member \(there is 'in/3\.bin', which differs in"
    ):
        read_bytes("test", f"{archive}::IN/3.bin")


def test_the_sign_of_a_home_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ValueError, match=rf"~/a\.jpg \(the ~ .*: write {tmp_path}/a\.jpg\)"):
        check_files([ImageRecord("~/a.jpg", 1)])
