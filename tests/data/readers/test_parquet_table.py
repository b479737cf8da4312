import sys

import pytest

from clipreid_kit.data import ImageRecord, read_table, write_table

RECORDS = [
    ImageRecord("set/in/a.jpg", 7, 2, "front", "a red coat", "train", {"age": "30"}),
    ImageRecord("set/b.jpg", 9),
]


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (
        lambda: read_table(tmp_path / "a.parquet"),
        lambda: write_table(RECORDS, tmp_path / "a.parquet"),
    ):
        with pytest.raises(
            ImportError,
            match=r"_table needs pyarrow for Parquet\. Install it with: pip install pyarrow",
        ):
            call()


def test_what_is_written_is_read_back(tmp_path):
    pytest.importorskip("pyarrow")
    for records in (
        RECORDS,
        [ImageRecord("set/a.jpg", "7", "1"), ImageRecord("set/a.jpg", "rex")],
        [],
    ):
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
    first, second = read_table(
        tmp_path / "a.parquet", root="r", columns={"path": "file", "identity": "pid"}
    )
    assert first == ImageRecord("r/a.jpg", 1, 3, extra={"age": "30", "tags": '["x"]'})
    assert second == ImageRecord("r/b.jpg", 2, extra={"tags": "[]"})


def test_what_cannot_be_read_or_written_is_explained(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(
        ValueError, match=r"read_table: expected an existing table, got no file at .*none\.parquet"
    ):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "a.parquet").write_text("old")
    with pytest.raises(
        ValueError, match=r"read_table: expected .*a\.parquet as Parquet, got Arrow"
    ):
        read_table(tmp_path / "a.parquet")
    with pytest.raises(
        ValueError,
        match="write_table: expected identity as integers or as strings, got int and str",
    ):
        write_table([*RECORDS, ImageRecord("set/c.jpg", "7")], tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="write_table: expected to write"):
        write_table(RECORDS, tmp_path / "none" / "a.parquet")
    assert (tmp_path / "a.parquet").read_text() == "old"
