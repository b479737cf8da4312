import pytest
import trees

from clipreid_kit.data import read_cargo


def test_cameras_and_views(tmp_path):
    base = trees.cargo(tmp_path)
    records = read_cargo(base, counts="ignore")
    found = [(r.split, r.identity, r.camera, r.view) for r in records]
    assert found == [
        ("train", 7, 1, "aerial"),
        ("train", 7, 13, "ground"),
        ("query", 2501, 5, "aerial"),
        ("gallery", 2501, 6, "ground"),
    ]
    assert records[1].path == f"{base}/train/Cam13/Cam13_night_7_3.jpg"


def test_another_name(tmp_path):
    base = trees.cargo(tmp_path)
    trees.fill(base, "gallery/Cam6/person.jpg")
    with pytest.raises(ValueError, match=r"person\.jpg is not named Cam<camera>_<time>_<identity>"):
        read_cargo(base, counts="ignore")
