import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_annotations, write_annotations

ENTRY = {
    "image_path": "in/a.jpg",
    "caption": " a red door ",
    "id": 4,
    "category": "door",
    "year": 1990,
    "none": None,
}


def _write(folder, content):
    file = folder / "annotations.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_splits_and_a_single_one(tmp_path):
    file = _write(
        tmp_path, {"splits": {"train": [ENTRY], "val": [{**ENTRY, "id": "x"}], "test": []}}
    )
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
        (
            {"splits": {"train": [], "val": []}},
            {"split": "test"},
            "a split 'test' in .*, got splits 'train', 'val'",
        ),
        ({"train": []}, {}, "or a list in .*, got an object with 'train'"),
        ("3", {}, "or a list in .*, got 3"),
        ("{", {}, "as JSON, got JSONDecodeError"),
        ({"splits": {"train": {}}}, {}, "a list of entries in split 'train' of .*, got dict"),
        (
            [ENTRY, {"image_path": "a", "id": 1}],
            {},
            "in each entry, got entry 2 without caption in",
        ),
        (
            {"splits": {"val": ["x"]}},
            {},
            "got entry 1 of split 'val' without image_path, caption, id in",
        ),
        (
            [{**ENTRY, "caption": 3}],
            {},
            "image_path and caption as texts, got 'in/a.jpg' and 3 in entry 1 of",
        ),
        ([{**ENTRY, "image_path": ""}], {}, "image_path and caption as texts"),
    ],
)
def test_another_form_is_explained(tmp_path, content, options, problem):
    with pytest.raises(ValueError, match=f"read_annotations: expected .*{problem}"):
        read_annotations(_write(tmp_path, content), **options)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"an annotation file, got no file at .*annotations\.json"):
        read_annotations(tmp_path)


_words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_rows = st.lists(
    st.tuples(
        st.one_of(st.integers(), _words),
        _words.map(str.strip).filter(bool),
        st.sampled_from("abc"),
        _words,
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows, split=st.booleans())
def test_what_is_written_is_read_back(tmp_path, rows, split):
    records = [
        ImageRecord(
            f"r/{n}.jpg",
            identity,
            caption=caption,
            split=name if split else None,
            extra={"category": other},
        )
        for n, (identity, caption, name, other) in enumerate(rows)
    ]
    write_annotations(records, tmp_path, relative_to="r")
    content = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict) == (split and bool(rows))
    order = list(dict.fromkeys(record.split for record in records))
    assert read_annotations(tmp_path, root="r") == sorted(
        records, key=lambda record: order.index(record.split)
    )


def test_the_written_form(tmp_path):
    records = [
        ImageRecord(
            "r/a.jpg",
            4,
            camera=2,
            view="front",
            caption="é",
            split="val",
            extra={"category": "door"},
        )
    ]
    write_annotations(records, tmp_path / "x.json", relative_to="r")
    entry = {
        "image_path": "a.jpg",
        "caption": "é",
        "id": 4,
        "camera": 2,
        "view": "front",
        "category": "door",
    }
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {
        "splits": {"val": [entry]}
    }
    (record,) = read_annotations(tmp_path / "x.json")
    assert record.extra == {"camera": "2", "view": "front", "category": "door"}
    write_annotations([record], tmp_path / "y.json")
    assert read_annotations(tmp_path / "y.json") == [record]
    write_annotations(records, tmp_path / "x.json")
    assert read_annotations(tmp_path / "x.json")[0].path.endswith("/r/a.jpg")


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([ImageRecord("r/a.jpg", 1)], r"a caption for every record, got none for r/a\.jpg\. Give"),
        (
            [
                ImageRecord("r/a.jpg", 1, caption="x", split="s"),
                ImageRecord("r/b.jpg", 2, caption="y"),
            ],
            "a split for every record or for none, got none for 1 of 2",
        ),
        (
            [ImageRecord("r/a.jpg", 1, caption="x", extra={"id": "7"})],
            "keys of extra .*, got 'id' for r/a",
        ),
        (
            [ImageRecord("r/a.jpg", 1, view="f", caption="x", extra={"view": "7"})],
            "keys of extra .*, got 'view' for r/a",
        ),
        ([ImageRecord("q/a.jpg", 1, caption="x")], "every image below r, got q/a.jpg"),
        ([ImageRecord("r/a.jpg", 1, caption="\ud800")], "to write .*surrogates not allowed"),
    ],
)
def test_what_cannot_be_written_is_explained(tmp_path, records, problem):
    with pytest.raises(ValueError, match=f"write_annotations: expected {problem}"):
        write_annotations(records, tmp_path, relative_to="r")
    assert not list(tmp_path.iterdir())
