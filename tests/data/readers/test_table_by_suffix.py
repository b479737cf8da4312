import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_csv, read_table, write_csv, write_table

SUFFIXES = [".csv", ".json", ".jsonl"]
COLUMNS = {"path", "identity", "camera", "view", "caption", "split", "modality"}
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


text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
name = text.map(str.strip).filter(bool)
extra_key = text.filter(lambda text: text.strip() not in COLUMNS)
record = st.builds(
    ImageRecord,
    path=st.sampled_from(["set/a.jpg", "set/b c/\u00e9.png", "set/p.zip::in/a.jpg"]),
    identity=st.integers(-(10**12), 10**12) | name,
    camera=st.none() | st.integers(0, 9) | name,
    view=st.none() | name,
    modality=st.none() | name,
    caption=st.none() | text.filter(str.strip),
    split=st.none() | name,
    extra=st.dictionaries(extra_key, text, max_size=2),
)


@pytest.mark.filterwarnings(
    "ignore:read_table. .* (several ways|goes to extra|as the name of one|is read as)"
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=30,
)
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
            r"expected a file that ends in \.csv, \.tsv, .*, \.arrow, \.xlsx, got '.*a\.txt'",
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


ROW = {"path": "a.jpg", "identity": 1}


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_the_first_of_several_captions_counts_and_the_others_are_kept(tmp_path, suffix):
    row = {**ROW, "caption": ["a red coat", "a person"]}
    file = tmp_path / f"a{suffix}"
    if suffix == ".json":
        file.write_text(json.dumps([row]))
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist([row]), file)

    (record,) = read_table(file)
    assert record.caption == "a red coat"
    assert record.extra == {"caption_2": "a person"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"caption": ["a", 3]},
            r"a caption as a text or a list of texts, got \['a', 3\] in record 1",
        ),
        (
            {"caption": {"en": "a"}},
            "a caption as a text or a list of texts, got {'en': 'a'} in rec",
        ),
        ({"path": ["a.jpg"]}, r"path as a string, got \['a\.jpg'\] in record 1"),
        ({"path": 7}, "path as a string, got 7 in record 1"),
        ({"split": ["train"]}, r"split as a string, got \['train'\] in record 1"),
        ({"view": {}}, "view as a string, got {} in record 1"),
        ({"identity": 2**63}, "identity as an integer or a non-empty string, got 9223372036854775"),
    ],
)
def test_values_of_another_form_are_refused(tmp_path, row, problem):
    with pytest.raises(ValueError, match=problem):
        read_table(make_table(tmp_path, "a.json", [{**ROW, **row}]))


def test_white_space_around_names_is_dropped(tmp_path):
    row = {**ROW, "identity": " rex ", "camera": "2 ", "split": "train "}
    (record,) = read_table(make_table(tmp_path, "a.json", [row]))
    assert (record.identity, record.camera, record.split) == ("rex", "2", "train")


def test_numbers_and_texts_that_look_alike_are_named(tmp_path):
    rows = [{**ROW, "identity": 7}, {**ROW, "identity": "7"}]
    with pytest.warns(UserWarning, match="identities are written in several ways.*: 7 and '7'"):
        read_table(make_table(tmp_path, "a.json", rows))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"path": "a", "path": "b"}', "'path' more than once"),
        ("[" * 5000 + "]" * 5000, "nested more than 100 levels"),
        (f'{{"identity": {"9" * 5000}}}', "limit .* for integer string conversion"),
    ],
)
def test_json_that_is_ambiguous_or_boundless_is_refused(tmp_path, name, text, problem):
    with pytest.raises(ValueError, match=f"read_table: .* is not valid JSON: .*{problem}"):
        read_table(make_table(tmp_path, name, text))


def test_columns_of_one_name_in_parquet_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.Table.from_arrays([["a"], [1], [2]], names=["path", "identity", "identity"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"read_table: cannot read .* as Parquet: .*identity"):
        read_table(tmp_path / "a.parquet")


def test_parquet_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    write_table(RECORDS, tmp_path / "a.parquet", relative_to="set")
    monkeypatch.setattr("clipreid_kit.data.readers._parquet_table.MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"unpacks to more than the limit of 10"):
        read_table(tmp_path / "a.parquet")


def test_a_key_that_is_a_further_caption_is_no_other_text(tmp_path):
    row = {"path": "a.jpg", "identity": 1, "caption": ["a coat", "a hat"], "caption_2": "a shoe"}
    file = tmp_path / "images.json"
    file.write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=r"record 1 of .* has a list of captions and 'caption_2'"):
        read_table(file)


@pytest.mark.parametrize("field", ["identity", "split"])
def test_warnings_about_long_values_are_short(tmp_path, field):
    names = ["r" * 1_000_000, "R" * 1_000_000]
    rows = [{"path": "a.jpg", "identity": 1, field: name} for name in names]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.warns(UserWarning, match="written in several ways") as found:
        read_table(tmp_path / "a.json")
    assert max(len(str(warning.message)) for warning in found) < 1500
