import json

import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.data.fashion import (
    read_image_paths,
    read_image_splits,
    read_texts,
    write_image_paths,
    write_image_splits,
    write_texts,
)

_RECORDS = [
    ImageRecord("img/mgi/a.jpg", "id_1", split="train"),
    ImageRecord("img/b.jpg", "id_2", split="query"),
    ImageRecord("img/c.jpg", "id_1", split="train"),
]


def test_image_paths_are_written_as_the_pipeline_has_them(tmp_path):
    file = tmp_path / "image_paths.json"
    write_image_paths(_RECORDS, file)
    assert json.loads(file.read_text()) == {
        "img/mgi/a.jpg": {"item_id": "id_1", "split": "train"},
        "img/b.jpg": {"item_id": "id_2", "split": "query"},
        "img/c.jpg": {"item_id": "id_1", "split": "train"},
    }
    assert file.read_text().startswith('{\n  "img/mgi/a.jpg": {\n    "item_id"')
    assert read_image_paths(file) == _RECORDS
    assert read_image_paths(file, root="data")[0].path == "data/img/mgi/a.jpg"


def test_a_folder_goes_as_a_whole_and_not_letter_by_letter(tmp_path):
    write_image_paths(_RECORDS, tmp_path / "p.json", relative_to="img")
    assert list(json.loads((tmp_path / "p.json").read_text())) == ["mgi/a.jpg", "b.jpg", "c.jpg"]
    assert read_image_paths(tmp_path / "p.json", root="img") == _RECORDS
    with pytest.raises(
        ValueError, match=r"write_image_paths: expected every image below im, got img/mgi/a\.jpg"
    ):
        write_image_paths(_RECORDS, tmp_path / "p.json", relative_to="im")


def test_an_archive_goes_as_a_folder_does(tmp_path):
    packed = [ImageRecord("data/img.zip::img/a.jpg", "id_1", split="train")]
    write_image_splits(packed, tmp_path / "s.json", relative_to="data/img.zip")
    assert read_image_splits(tmp_path / "s.json") == {"train": ["img/a.jpg"]}
    write_image_splits(packed, tmp_path / "s.json")
    assert read_image_splits(tmp_path / "s.json") == {"train": ["data/img.zip::img/a.jpg"]}


def test_splits_and_texts_are_read_back(tmp_path):
    write_image_splits(_RECORDS, tmp_path / "s.json")
    assert read_image_splits(tmp_path / "s.json") == {
        "train": ["img/mgi/a.jpg", "img/c.jpg"],
        "query": ["img/b.jpg"],
    }
    write_texts({"b": "ü", "a": "x"}, tmp_path / "t.json")
    assert list(read_texts(tmp_path / "t.json").items()) == [("a", "x"), ("b", "ü")]


@pytest.mark.parametrize("write", [write_image_paths, write_image_splits])
def test_records_that_cannot_be_written_are_named(tmp_path, write):
    with pytest.raises(ValueError, match=r"a split for every record, got none for d\.jpg"):
        write([ImageRecord("d.jpg", 1)], tmp_path / "p.json")
    with pytest.raises(ValueError, match="paths that differ, got 1 repeated"):
        write([*_RECORDS, _RECORDS[0]], tmp_path / "p.json")
    with pytest.raises(ValueError, match=r"to write .*no/p\.json"):
        write(_RECORDS, tmp_path / "no" / "p.json")


@pytest.mark.parametrize(
    ("read", "content", "problem"),
    [
        (read_image_paths, "[]", r"a JSON object in .*got \[\]"),
        (read_image_paths, '{"a": {"item_id": "x"}}', r"got .*item_id.* for a"),
        (read_image_paths, '{"a": {"item_id": 7, "split": "train"}}', "for a"),
        (read_image_splits, '{"train": "a"}', 'got "a" for train'),
        (read_image_splits, '{"train": ["a"], "val": ["a"]}', "every image once in .*got a twice"),
        (read_texts, '{"a": 1}', "a text for every key in .*got 1 for a"),
        (read_texts, '{"a": "x", "a": "y"}', "the key 'a' occurs twice"),
        (read_texts, '{"a": ', "as JSON in UTF-8"),
        (read_texts, None, "an existing JSON file"),
    ],
)
def test_files_of_another_shape_are_refused(tmp_path, read, content, problem):
    if content is not None:
        (tmp_path / "p.json").write_text(content)
    with pytest.raises(ValueError, match=rf"{read.__name__}: expected .*{problem}"):
        read(tmp_path / "p.json")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "p.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"read_texts: .*UnicodeDecodeError"):
        read_texts(tmp_path / "p.json")
