import json

import pytest

from clipreid_kit.reports.own_files import WRITTEN_FILE, write_own_files


def test_own_files_are_replaced(tmp_path):
    out = tmp_path / "out"
    write_own_files(out, {"a.csv": b"1", "in/b.png": b"2"})
    write_own_files(out, {"a.csv": b"3", "in/b.png": b"2"})

    assert (out / "a.csv").read_bytes() == b"3"
    assert (out / "in/b.png").read_bytes() == b"2"
    assert json.loads((out / WRITTEN_FILE).read_text()).keys() == {"a.csv", "in/b.png"}


@pytest.mark.parametrize("was_own", [False, True])
def test_files_of_others_are_left_alone(tmp_path, was_own):
    if was_own:
        write_own_files(tmp_path, {"a.csv": b"1"})
    (tmp_path / "a.csv").write_text("my notes")

    with pytest.raises(ValueError, match=r"were changed since: a\.csv\. Move them away"):
        write_own_files(tmp_path, {"b.csv": b"1", "a.csv": b"2"})
    assert (tmp_path / "a.csv").read_text() == "my notes"
    assert not (tmp_path / "b.csv").exists()


def test_equal_files_of_others_are_no_error(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1")
    write_own_files(tmp_path, {"a.csv": b"1"})
    write_own_files(tmp_path, {"a.csv": b"2"})
    assert (tmp_path / "a.csv").read_bytes() == b"2"
