"""The checks after a kill see what is lost or unreadable."""

import pytest
from fuzz.kills import (
    _batch,
    check_index,
    check_versions,
    problem_of,
)

from clipreid_kit.data import ImageRecord, write_csv
from clipreid_kit.retrieval import GalleryIndex


def write_version(folder, version, rows=20):
    write_csv([ImageRecord(f"{version}.jpg", row) for row in range(rows)], folder / "a.csv")


def test_nothing_was_said_and_nothing_is_there(tmp_path):
    assert problem_of(check_versions, tmp_path, None) == ""
    assert problem_of(check_index, tmp_path, None) == ""


def test_an_old_version_is_lost(tmp_path):
    write_version(tmp_path, 3)
    problem = problem_of(check_versions, tmp_path, 4)
    assert problem == "lost: a.csv has version 3 after 4"


def test_a_part_of_a_file_is_unreadable(tmp_path):
    write_version(tmp_path, 3, rows=7)
    problem = problem_of(check_versions, tmp_path, None)
    assert problem.startswith("unreadable: ValueError: 7 records of the versions {3}")


@pytest.mark.parametrize(("said", "problem"), [(20, ""), (None, ""), (40, "lost: 20 rows of 40")])
def test_rows_of_an_index(tmp_path, said, problem):
    GalleryIndex.build(_batch(0), store=tmp_path / "gallery")
    assert problem_of(check_index, tmp_path, said) == problem


def test_other_rows_in_an_index_are_unreadable(tmp_path):
    GalleryIndex.build(_batch(5), store=tmp_path / "gallery")
    assert problem_of(check_index, tmp_path, 20) == "unreadable: batch 0 has other rows"
