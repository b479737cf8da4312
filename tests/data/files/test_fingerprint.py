import os
import zipfile

import pytest

from clipreid_kit.data import ImageRecord, image_fingerprint
from clipreid_kit.data.files import fingerprint


def records_of(folder, *contents):
    records = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.jpg"
        path.write_bytes(content)
        records.append(ImageRecord(str(path), number))
    return records


def test_the_content_counts_and_not_the_path_or_time(tmp_path):
    (tmp_path / "copy").mkdir()
    first = image_fingerprint(records_of(tmp_path, b"one", b"two"))
    copies = records_of(tmp_path / "copy", b"one", b"two")
    os.utime(copies[0].path, (1, 1))

    assert image_fingerprint(copies) == first
    assert image_fingerprint(copies[::-1]) != first
    assert image_fingerprint(records_of(tmp_path, b"one", b"tow")) != first


def test_members_of_archives_count_by_their_checksums(tmp_path):
    found = set()
    for content in ("one", "two"):
        path = tmp_path / f"{content}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.jpg", content)
        found.add(image_fingerprint([ImageRecord(f"{path}::a.jpg", 1)]))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("contents", "changes"),
    [((b"one", b"2222"), True), ((b"eno", b"222"), True), ((b"one", b"322"), False)],
    ids=["another size", "the first image", "an image between the samples"],
)
def test_of_many_bytes_sizes_and_samples_count(tmp_path, monkeypatch, contents, changes):
    monkeypatch.setattr(fingerprint, "_ALL_BYTES", 4)
    monkeypatch.setattr(fingerprint, "_NUM_SAMPLES", 1)

    before = image_fingerprint(records_of(tmp_path, b"one", b"222"))
    assert (image_fingerprint(records_of(tmp_path, *contents)) != before) == changes


def test_cells_of_a_table_count_by_its_content_and_their_names(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"one")
    (tmp_path / "b.parquet").write_bytes(b"two")
    cells = ("a.parquet::image/0", "a.parquet::image/1", "b.parquet::image/0")
    found = {image_fingerprint([ImageRecord(f"{tmp_path}/{cell}", 1)]) for cell in cells}
    assert len(found) == 3


@pytest.mark.parametrize("path", ["no.jpg", "no.zip::a.jpg", "no.arrow::image/0", "a\0b"])
def test_missing_files_are_no_error(path):
    assert len(image_fingerprint([ImageRecord(path, 1)])) == 64


def test_no_records_have_a_fingerprint():
    assert image_fingerprint([]) == image_fingerprint(())
