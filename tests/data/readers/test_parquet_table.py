import sys

import pytest

from clipreid_kit.data import ImageRecord, read_table, write_table

RECORDS = [
    ImageRecord("set/in/a.jpg", 7, 2, "front", "a red coat", "train", {"age": "30"}),
    ImageRecord("set/b.jpg", 9),
]
MESSAGE = r"_table needs pyarrow for Parquet and Arrow\. Install it with: pip install pyarrow"


def test_reading_without_pyarrow_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=f"read{MESSAGE}"):
        read_table(tmp_path / "a.parquet")


def test_writing_without_pyarrow_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=f"write{MESSAGE}"):
        write_table(RECORDS, tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "records",
    [
        RECORDS,
        [ImageRecord("set/a.jpg", "7", "1"), ImageRecord("set/a.jpg", "rex")],
        [],
    ],
)
def test_a_written_table_is_read_back(tmp_path, records):
    pytest.importorskip("pyarrow")
    write_table(records, tmp_path / "a.parquet", relative_to="set")

    assert read_table(tmp_path / "a.parquet", root="set") == records


def test_columns_of_other_programs(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {
        "file": ["a.jpg", "b.jpg"],
        "pid": [1, 2],
        "camera": [3.0, None],
        "age": [30, None],
        "tags": [["x"], []],
    }
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")

    columns = {"path": "file", "identity": "pid"}
    assert read_table(tmp_path / "a.parquet", root="r", columns=columns) == [
        ImageRecord("r/a.jpg", 1, 3, extra={"age": "30", "tags": '["x"]'}),
        ImageRecord("r/b.jpg", 2, extra={"tags": "[]"}),
    ]


def test_a_missing_table_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"read_table: there is no file at .*none\.parquet"):
        read_table(tmp_path / "none.parquet")


def test_a_damaged_table_is_explained(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_text("damaged")

    message = r"read_table: cannot read .*a\.parquet as Parquet: Arrow"
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "a.parquet")


def test_identities_of_two_types_leave_the_old_file(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_text("old")

    message = "write_table: the column identity holds int and str, and Parquet takes one type"
    with pytest.raises(ValueError, match=message):
        write_table([*RECORDS, ImageRecord("set/c.jpg", "7")], tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").read_text() == "old"


def test_a_missing_target_folder_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"write_table: cannot write .*none"):
        write_table(RECORDS, tmp_path / "none" / "a.parquet")


@pytest.mark.parametrize("field", ["identity", "camera", "caption"])
def test_bytes_as_the_values_of_a_field_are_refused(tmp_path, field):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {"path": ["a.jpg", "b.jpg"], "identity": [1, 1], field: [b"rex", b"rex"]}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"the column '{field}' of .* holds bytes, not text"):
        read_table(tmp_path / "a.parquet")
