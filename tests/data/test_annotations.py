import json

import pytest

from clipreid_kit.data import ImageRecord, read_annotations

ENTRY = {"image_path": "in/a.jpg", "caption": " a red door ", "id": 4, "category": "door", "year": 1990, "none": None}


def _write(folder, content):
    file = folder / "annotations.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_splits_and_a_single_one(tmp_path):
    file = _write(tmp_path, {"splits": {"train": [ENTRY], "val": [{**ENTRY, "id": "x"}], "test": []}})
    base = {"caption": "a red door", "extra": {"category": "door", "year": "1990"}}
    expected = [
        ImageRecord(f"{tmp_path}/in/a.jpg", 4, split="train", **base),
        ImageRecord(f"{tmp_path}/in/a.jpg", "x", split="val", **base),
    ]
    assert read_annotations(file) == read_annotations(tmp_path) == expected
    assert read_annotations(file, split="val") == expected[1:]
    assert read_annotations(file, split="test") == []
    assert read_annotations(file, root="r")[0].path == "r/in/a.jpg"


def test_a_bare_list_takes_the_name_it_is_given(tmp_path):
    file = _write(tmp_path, [ENTRY])
    assert [r.split for r in read_annotations(file)] == [None]
    assert [r.split for r in read_annotations(file, split="train")] == ["train"]


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        ({"splits": {"train": [], "val": []}}, {"split": "test"}, "a split 'test' in .*, got splits 'train', 'val'"),
        ({"train": []}, {}, "or a list in .*, got an object with 'train'"),
        ("3", {}, "or a list in .*, got 3"),
        ("{", {}, "as JSON, got JSONDecodeError"),
        ({"splits": {"train": {}}}, {}, "a list of entries in split 'train' of .*, got dict"),
        ([ENTRY, {"image_path": "a", "id": 1}], {}, "in each entry, got entry 2 without caption in"),
        ({"splits": {"val": ["x"]}}, {}, "got entry 1 of split 'val' without image_path, caption, id in"),
        ([{**ENTRY, "caption": 3}], {}, "image_path and caption as texts, got 'in/a.jpg' and 3 in entry 1 of"),
        ([{**ENTRY, "image_path": ""}], {}, "image_path and caption as texts"),
    ],
)
def test_another_form_is_explained(tmp_path, content, options, problem):
    with pytest.raises(ValueError, match=f"read_annotations: expected .*{problem}"):
        read_annotations(_write(tmp_path, content), **options)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"an annotation file, got no file at .*annotations\.json"):
        read_annotations(tmp_path)
