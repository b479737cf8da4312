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


@pytest.fixture
def file(tmp_path):
    return tmp_path / "p.json"


def test_image_paths_have_the_structure_of_the_pipeline(file):
    write_image_paths(_RECORDS, file)

    assert json.loads(file.read_text()) == {
        "img/mgi/a.jpg": {"item_id": "id_1", "split": "train"},
        "img/b.jpg": {"item_id": "id_2", "split": "query"},
        "img/c.jpg": {"item_id": "id_1", "split": "train"},
    }
    assert file.read_text().startswith('{\n  "img/mgi/a.jpg": {\n    "item_id"')


def test_image_paths_are_read_back(file):
    write_image_paths(_RECORDS, file)

    assert read_image_paths(file) == _RECORDS
    assert read_image_paths(file, root="data")[0].path == "data/img/mgi/a.jpg"


def test_image_paths_are_found_below_the_folder_of_their_split(file, tmp_path):
    """The layout of the pipeline: ``splits/train/img/...``; a split without a folder is not."""
    write_image_paths(_RECORDS, file)
    (tmp_path / "splits" / "train").mkdir(parents=True)

    paths = [record.path for record in read_image_paths(file, root=tmp_path / "splits")]
    assert paths == [
        str(tmp_path / "splits" / "train" / "img" / "mgi" / "a.jpg"),
        str(tmp_path / "splits" / "img" / "b.jpg"),
        str(tmp_path / "splits" / "train" / "img" / "c.jpg"),
    ]


def test_a_folder_is_removed_as_a_whole_and_not_letter_by_letter(file):
    write_image_paths(_RECORDS, file, relative_to="img")

    assert list(json.loads(file.read_text())) == ["mgi/a.jpg", "b.jpg", "c.jpg"]
    assert read_image_paths(file, root="img") == _RECORDS


def test_images_outside_the_folder_are_refused(file):
    text = r"write_image_paths: expected every image below im, got img/mgi/a\.jpg"

    with pytest.raises(ValueError, match=text):
        write_image_paths(_RECORDS, file, relative_to="im")


def test_an_archive_is_removed_like_a_folder(file):
    packed = [ImageRecord("data/img.zip::img/a.jpg", "id_1", split="train")]

    write_image_splits(packed, file, relative_to="data/img.zip")
    assert read_image_splits(file) == {"train": ["img/a.jpg"]}

    write_image_splits(packed, file)
    assert read_image_splits(file) == {"train": ["data/img.zip::img/a.jpg"]}


def test_splits_are_read_back(file):
    write_image_splits(_RECORDS, file)

    assert read_image_splits(file) == {
        "train": ["img/mgi/a.jpg", "img/c.jpg"],
        "query": ["img/b.jpg"],
    }


def test_texts_are_read_back_in_sorted_order(file):
    write_texts({"b": "ü", "a": "x"}, file)

    assert list(read_texts(file).items()) == [("a", "x"), ("b", "ü")]


@pytest.mark.parametrize("write", [write_image_paths, write_image_splits])
def test_records_that_cannot_be_written_are_named(tmp_path, write):
    with pytest.raises(ValueError, match=r"d\.jpg has no split; every record needs one"):
        write([ImageRecord("d.jpg", 1)], tmp_path / "p.json")

    with pytest.raises(ValueError, match=r"two records have the path img/mgi/a\.jpg"):
        write([*_RECORDS, _RECORDS[0]], tmp_path / "p.json")

    with pytest.raises(ValueError, match=r"cannot write .*no/p\.json"):
        write(_RECORDS, tmp_path / "no" / "p.json")


@pytest.mark.parametrize(
    ("read", "content", "problem"),
    [
        (read_image_paths, "[]", r"expected a JSON object in .*got \[\]"),
        (read_image_paths, '{"a": {"item_id": "x"}}', r"expected .*got .*item_id.* for a"),
        (read_image_paths, '{"a": {"item_id": 7, "split": "train"}}', "expected .*for a"),
        (read_image_splits, '{"train": "a"}', 'expected .*got "a" for train'),
        (read_image_splits, '{"train": ["a"], "val": ["a"]}', ".*p.json lists a twice"),
        (read_texts, '{"a": 1}', "expected a text for every key in .*got 1 for a"),
        (read_texts, '{"a": "x", "a": "y"}', ".*'a' more than once in an object"),
        (read_texts, '{"a": ', ".*p.json is not readable as JSON in UTF-8"),
    ],
)
def test_files_of_another_structure_are_refused(file, read, content, problem):
    file.write_text(content)

    with pytest.raises(ValueError, match=rf"{read.__name__}: {problem}"):
        read(file)


@pytest.mark.parametrize("read", [read_image_paths, read_image_splits, read_texts])
def test_a_missing_file_is_named(file, read):
    with pytest.raises(ValueError, match=rf"{read.__name__}: there is no file .*p\.json"):
        read(file)


def test_text_that_is_not_utf8_is_refused(file):
    file.write_bytes(b'{"a": "\xff"}')

    with pytest.raises(ValueError, match=r"read_texts: .*UnicodeDecodeError"):
        read_texts(file)
