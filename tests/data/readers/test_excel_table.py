from datetime import datetime

import pytest

from clipreid_kit.data import ImageRecord, read_table

openpyxl = pytest.importorskip("openpyxl")


def book(folder, *rows):
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    made.save(folder / "images.xlsx")
    return folder / "images.xlsx"


def test_cells_keep_their_types(tmp_path):
    table = book(
        tmp_path,
        ("path", "identity", "camera", "seen", "box"),
        ("a.jpg", 7, "door", datetime.fromisoformat("2024-03-01"), "1,2,3,4"),
        (None, None, None, None, None),
        ("b.jpg", 8, None, datetime.fromisoformat("2024-03-01T12:30:00"), None),
    )
    assert read_table(table, root="in") == [
        ImageRecord("in/a.jpg#xywh=1,2,3,4", 7, "door", extra={"seen": "2024-03-01"}),
        ImageRecord("in/b.jpg", 8, extra={"seen": "2024-03-01T12:30:00"}),
    ]


def test_a_sheet_without_rows_is_empty(tmp_path):
    assert read_table(book(tmp_path, ("path", "identity"))) == []


def test_columns_are_renamed_and_may_lack_a_name(tmp_path):
    table = book(tmp_path, (None, "file", "name"), (0, "a.jpg", "rex"))
    (record,) = read_table(table, root="in", columns={"path": "file", "identity": "name"})
    assert record == ImageRecord("in/a.jpg", "rex", extra={"column 1": "0"})


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ((("path", "identity"), (3, 4)), "expected path as a string, got 3 in record 1"),
        ((("path", "name"), ("a", 4)), "has no column 'identity'"),
        ((("path", "path"), ("a", 4)), "cannot read .* as Excel: the columns path occur more"),
    ],
)
def test_a_bad_sheet_is_explained(tmp_path, rows, problem):
    with pytest.raises(ValueError, match=f"read_table: .*{problem}|{problem}"):
        read_table(book(tmp_path, *rows))


def test_damaged_and_missing_files_are_explained(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"path,identity\n")
    with pytest.raises(ValueError, match=r"read_table: cannot read .*a\.xlsx as Excel: "):
        read_table(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="read_table: there is no file at"):
        read_table(tmp_path / "b.xlsx")


def test_delimiters_are_of_separated_cells(tmp_path):
    table = book(tmp_path, ("path", "identity"))
    with pytest.raises(ValueError, match="read_table: delimiter is of separated cells"):
        read_table(table, delimiter=";")
