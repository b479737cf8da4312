import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_csv, read_table, write_csv, write_table

KINDS = [".csv", ".json", ".jsonl"]

RECORDS = [
    ImageRecord("set/in/a.jpg", 7, 2, "front", "a red coat, long", "train", {"age": "30"}),
    ImageRecord("set/b.jpg", 7, None, None, "caf\u00e9\u2028au lait", None, {}),
    ImageRecord("set/pack.zip::in/c.jpg", 9, 1),
]


def _table(folder, name, content):
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back(tmp_path, kind):
    file = tmp_path / f"a{kind}"
    write_table(RECORDS, file, relative_to="set")
    assert read_table(file, root="set") == RECORDS
    write_table([], file)
    assert read_table(file) == []


def test_csv_is_that_of_read_csv_and_write_csv(tmp_path):
    write_table(RECORDS, tmp_path / "a.CSV", relative_to="set")
    write_csv(RECORDS, tmp_path / "b.csv", relative_to="set")
    assert (tmp_path / "a.CSV").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert read_table(tmp_path / "a.CSV", root="set") == read_csv(tmp_path / "b.csv", root="set")


_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_name = _text.filter(str.strip)
_key = _text.filter(
    lambda text: text not in {"path", "identity", "camera", "view", "caption", "split"}
)
_records = st.lists(
    st.builds(
        ImageRecord,
        path=st.sampled_from(["set/a.jpg", "set/b c/\u00e9.png", "set/p.zip::in/a.jpg"]),
        identity=st.integers(-(10**12), 10**12) | _name,
        camera=st.none() | st.integers(0, 9) | _name,
        view=st.none() | _text,
        caption=st.none() | _text,
        split=st.none() | _text,
        extra=st.dictionaries(_key, _text, max_size=2),
    ),
    max_size=5,
)


@pytest.mark.parametrize("kind", [".json", ".jsonl"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(records=_records)
def test_json_keeps_any_text_and_knows_seven_from_its_name(tmp_path, kind, records):
    write_table(records, tmp_path / f"a{kind}", relative_to="set")
    assert read_table(tmp_path / f"a{kind}", root="set") == records


def test_values_that_are_no_text(tmp_path):
    row = {
        "file": "a.jpg",
        "identity": 7.0,
        "camera": math.nan,
        "view": 3,
        "age": 30,
        "tags": ["x", "\u00e9"],
        "no": None,
    }
    (record,) = read_table(_table(tmp_path, "a.json", [row]), root="r", columns={"path": "file"})
    assert record == ImageRecord(
        "r/a.jpg", 7, view="3", extra={"age": "30", "tags": '["x", "\u00e9"]'}
    )
    assert type(record.identity) is int


def test_keys_may_be_missing_from_single_rows(tmp_path):
    rows = [{"path": "a.jpg", "identity": "x"}, {"identity": "y", "path": "b.jpg", "camera": 4}]
    assert [r.camera for r in read_table(_table(tmp_path, "a.json", rows))] == [None, 4]
    assert read_table(_table(tmp_path, "a.json", rows))[0].path == f"{tmp_path}/a.jpg"


def test_a_byte_order_mark_and_blank_lines(tmp_path):
    file = _table(
        tmp_path, "a.jsonl", '\ufeff{"path": "a", "identity": 1}\r\n\n{"path": "b", "identity": 1}'
    )
    assert len(read_table(file)) == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", "{", r"a\.json as JSON, got NotJsonError: .*a\.json: Expecting"),
        (
            "a.jsonl",
            '{"path": "a", "identity": 1}\n{',
            r"as JSON, got NotJsonError: line 2 of .*a\.jsonl",
        ),
        (
            "a.json",
            '[{"path": "a", "path": "b", "identity": 1}]',
            "'path' more than once in an object",
        ),
        (
            "a.json",
            {"splits": {}},
            "a list of objects, .*, got an object with 'splits'. .*use read_annotations",
        ),
        ("a.json", [1], "a list of objects, .*, got something else"),
        ("a.json", "3", "a list of objects"),
        (
            "a.json",
            [{"path": "a", "pid": 1}],
            "a column 'identity' in .*, got columns 'path', 'pid'",
        ),
        (
            "a.json",
            [{"path": "a", "identity": 1}, {"path": "b"}],
            "a value of 'identity' .*, got none in record 2 of",
        ),
        (
            "a.json",
            [{"path": " ", "identity": 1}],
            "a value of 'path' in each record, got none in record 1",
        ),
        (
            "a.json",
            [{"path": "a", "identity": True}],
            "identity as a whole number or text, got True in record 1",
        ),
        ("a.json", [{"path": "a", "identity": 1.5}], "identity as a whole number or text, got 1.5"),
        (
            "a.json",
            [{"path": "a", "identity": 1, "camera": []}],
            r"camera as a whole number or text, got \[\]",
        ),
        ("a.txt", "", r"a file that ends in \.csv, \.json, \.jsonl, \.parquet, got '.*a\.txt'"),
    ],
)
def test_a_bad_table_is_explained(tmp_path, name, content, problem):
    with pytest.raises(ValueError, match=f"read_table: expected .*{problem}"):
        read_table(_table(tmp_path, name, content))


def test_missing_and_undecodable_tables_are_explained(tmp_path):
    with pytest.raises(
        ValueError, match=r"read_table: expected an existing table, got no file at .*none\.json"
    ):
        read_table(tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes(b'["\xff"]')
    with pytest.raises(ValueError, match=r"a\.json as JSON, got UnicodeDecodeError"):
        read_table(tmp_path / "a.json")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (ImageRecord("other/a.jpg", 1), "every image below set, got other/a.jpg"),
        (
            ImageRecord("set/a.jpg", 1, extra={"camera": "1"}),
            "keys of extra that are not columns already, got camera",
        ),
        (ImageRecord("set/a.jpg", 1, caption="\ud800"), "to write .*surrogates"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, kind, record, problem):
    target = tmp_path / f"a{kind}"
    target.write_text("old")
    with pytest.raises(ValueError, match=f"write_(table|csv): expected .*{problem}"):
        write_table([record], target, relative_to="set")
    assert target.read_text() == "old"


def test_another_suffix_is_explained(tmp_path):
    with pytest.raises(ValueError, match="write_table: expected a file that ends in"):
        write_table([], Path(tmp_path, "a.xlsx"))
