from pathlib import Path

import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.data.readers._table_columns import filled_columns, find_columns

FILE = Path("images.csv")


def test_columns_are_found_by_their_names():
    header = ["age", "identity", "file", "camera"]
    assert find_columns("x", FILE, header, {"path": "file"}) == {
        "path": 2,
        "identity": 1,
        "camera": 3,
    }


@pytest.mark.parametrize(
    ("header", "columns", "problem"),
    [
        (
            ["path", "Identities", "x"],
            {},
            r"images\.csv has no column 'identity'; its columns are 'path', 'Identities', 'x'\. "
            r".*=\{'identity': 'Identities'\}",
        ),
        (["path", " identity"], {}, r".*columns=\{'identity': ' identity'\}"),
        (["path", "zzz"], {}, r".*columns=\{'identity': <its name in the table>\}"),
        (["in/a.jpg", "rex"], {}, r".*'in/a\.jpg', 'rex'\. Its first row has to name the columns"),
        (["path", "identity"], {"camera": "cam"}, r"images\.csv has no column 'cam'"),
        (
            ["path", "identity"],
            {"person": "pid"},
            "columns has the keys 'person'; its keys are among path, identity, ",
        ),
        (["path", "identity"], {"caption": "identity"}, "columns maps two fields to one column"),
        (["path", "identity", "x", "x"], {}, "the columns 'x' occur more than once in"),
    ],
)
def test_columns_that_cannot_be_found_are_explained(header, columns, problem):
    with pytest.raises(ValueError, match=f"x: {problem}"):
        find_columns("x", FILE, header, columns)


def test_columns_that_no_record_fills_are_left_out():
    records = [
        ImageRecord("a.jpg", 1, camera=0),
        ImageRecord("b.jpg", 1, caption="", extra={"b": "1", "a": ""}),
    ]
    assert filled_columns("x", records) == (["camera", "caption"], ["a", "b"])
    assert filled_columns("x", []) == ([], [])
