import pytest
import trees

from clipreid_kit.data import read_ag_reid


def test_views_and_both_directions(tmp_path):
    records = read_ag_reid(trees.ag_reid(tmp_path), counts="ignore")
    found = [(r.split, r.identity, r.camera, r.view) for r in records]
    assert found == [
        ("train", "P0001T02193A0", 0, "aerial"),
        ("train", "P0001T02193A0", 3, "ground"),
        ("query", "P0002T02160A1", 0, "aerial"),
        ("query", "P0002T02160A1", 3, "ground"),
        ("gallery", "P0002T02160A1", 3, "ground"),
        ("gallery", "P0002T02160A1", 0, "aerial"),
    ]


def test_another_name(tmp_path):
    base = trees.ag_reid(tmp_path)
    trees.fill(base, "query_all_c0/P0001T02193A0C5F00000.jpg")
    with pytest.raises(ValueError, match=r"C5F00000\.jpg is not named P<person>T<time>A<altitude>"):
        read_ag_reid(base, counts="ignore")
