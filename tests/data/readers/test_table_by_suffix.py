import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_csv, read_table, write_csv, write_table

SUFFIXES = [".csv", ".json", ".jsonl"]
COLUMNS = {"path", "identity", "camera", "view", "caption", "split"}
RECORDS = [
    ImageRecord("set/in/a.jpg", 7, 2, "front", "a red coat, long", "train", {"age": "30"}),
    ImageRecord("set/b.jpg", 7, None, None, "caf\u00e9\u2028au lait", None, {}),
    ImageRecord("set/pack.zip::in/c.jpg", 9, 1),
]


def make_table(folder, name, content):
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("records", [RECORDS, []])
def test_a_written_table_is_read_back(tmp_path, suffix, records):
    file = tmp_path / f"a{suffix}"
    write_table(records, file, relative_to="set")

    assert read_table(file, root="set") == records


def test_csv_is_that_of_read_csv_and_write_csv(tmp_path):
    write_table(RECORDS, tmp_path / "a.CSV", relative_to="set")
    write_csv(RECORDS, tmp_path / "b.csv", relative_to="set")

    assert (tmp_path / "a.CSV").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert read_table(tmp_path / "a.CSV", root="set") == read_csv(tmp_path / "b.csv", root="set")


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
name = text.map(str.strip).filter(bool)
extra_key = text.filter(lambda text: text.strip() not in COLUMNS)
record = st.builds(
    ImageRecord,
    path=st.sampled_from(["set/a.jpg", "set/b c/\u00e9.png", "set/p.zip::in/a.jpg"]),
    identity=st.integers(-(10**12), 10**12) | name,
    camera=st.none() | st.integers(0, 9) | name,
    view=st.none() | name,
    caption=st.none() | text.filter(str.strip),
    split=st.none() | name,
    extra=st.dictionaries(extra_key, text, max_size=2),
)


@pytest.mark.filterwarnings("ignore:read_table. .* (several ways|goes to extra)")
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(records=st.lists(record, max_size=5))
def test_json_keeps_any_text_and_the_types(tmp_path, suffix, records):
    file = tmp_path / f"a{suffix}"
    write_table(records, file, relative_to="set")

    assert read_table(file, root="set") == records


def test_values_of_other_types_become_strings(tmp_path):
    row = {
        "file": "a.jpg",
        "identity": 7.0,
        "camera": math.nan,
        "view": 3,
        "age": 30,
        "tags": ["x", "\u00e9"],
        "no": None,
    }
    table = make_table(tmp_path, "a.json", [row])
    (record,) = read_table(table, root="r", columns={"path": "file"})

    extra = {"age": "30", "tags": '["x", "\u00e9"]'}
    assert record == ImageRecord("r/a.jpg", 7, view="3", extra=extra)
    assert type(record.identity) is int


def test_single_rows_may_lack_keys(tmp_path):
    rows = [{"path": "a.jpg", "identity": "x"}, {"identity": "y", "path": "b.jpg", "camera": 4}]
    records = read_table(make_table(tmp_path, "a.json", rows))

    assert [record.camera for record in records] == [None, 4]
    assert records[0].path == f"{tmp_path}/a.jpg"


def test_a_byte_order_mark_and_blank_lines_are_skipped(tmp_path):
    content = '\ufeff{"path": "a", "identity": 1}\r\n\n{"path": "b", "identity": 1}'
    assert len(read_table(make_table(tmp_path, "a.jsonl", content))) == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", "{", r".*a\.json is not valid JSON: Expecting .*list of objects \(\.json\)"),
        (
            "a.jsonl",
            '{"path": "a", "identity": 1}\n{',
            r".*a\.jsonl is not valid JSON: line 2: Expecting",
        ),
        (
            "a.json",
            '[{"path": "a", "path": "b", "identity": 1}]',
            ".* is not valid JSON: 'path' more than once in an object",
        ),
        (
            "a.json",
            {"splits": {}},
            ".*one object with 'splits' instead of a list .*use read_annotations",
        ),
        ("a.json", [1], ".* has to hold a list of objects"),
        ("a.json", "3", ".* has to hold a list of objects"),
        (
            "a.json",
            [{"path": "a", "pid": 1}],
            ".* has no column 'identity'; its columns are 'path', 'pid'",
        ),
        (
            "a.json",
            [{"path": "a", "identity": 1}, {"path": "b"}],
            r"'identity' is missing in record 2 of .*a\.json",
        ),
        ("a.json", [{"path": " ", "identity": 1}], "'path' is missing in record 1 of"),
        (
            "a.json",
            [{"path": "a", "identity": True}],
            "expected identity as a whole number or a string, got True in record 1",
        ),
        (
            "a.json",
            [{"path": "a", "identity": 1.5}],
            "expected identity as a whole number or a string, got 1.5",
        ),
        (
            "a.json",
            [{"path": "a", "identity": 1, "camera": []}],
            r"expected camera as a whole number or a string, got \[\]",
        ),
        (
            "a.txt",
            "",
            r"expected a file that ends in \.csv, \.json, \.jsonl, \.parquet, got '.*a\.txt'",
        ),
    ],
)
def test_a_bad_table_is_explained(tmp_path, name, content, problem):
    with pytest.raises(ValueError, match=f"read_table: {problem}"):
        read_table(make_table(tmp_path, name, content))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"read_table: there is no file at .*none\.json"):
        read_table(tmp_path / "none.json")


def test_another_encoding_is_explained(tmp_path):
    (tmp_path / "a.json").write_bytes(b'["\xff"]')
    with pytest.raises(ValueError, match=r"cannot read .*a\.json: UnicodeDecodeError.*UTF-8"):
        read_table(tmp_path / "a.json")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (ImageRecord("other/a.jpg", 1), r"other/a\.jpg is not below set"),
        (
            ImageRecord("set/a.jpg", 1, extra={"camera": "1"}),
            "the keys camera of extra are names of columns already",
        ),
        (ImageRecord("set/a.jpg", 1, caption="\ud800"), "cannot write .*surrogates"),
    ],
)
def test_a_record_that_cannot_be_written_leaves_the_old_file(tmp_path, suffix, record, problem):
    target = tmp_path / f"a{suffix}"
    target.write_text("old")

    with pytest.raises(ValueError, match=f"write_(table|csv): {problem}"):
        write_table([record], target, relative_to="set")
    assert target.read_text() == "old"


def test_an_unknown_suffix_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="write_table: expected a file that ends in"):
        write_table([], Path(tmp_path, "a.xlsx"))
