import pytest
import trees

from clipreid_kit.data import read_icfg_pedes


def test_persons_of_both_splits_are_distinct(tmp_path):
    records = read_icfg_pedes(trees.icfg_pedes(tmp_path), counts="ignore")

    # the list has a person 0 in both splits; 0 and 1 are trained on
    found = [(record.identity, record.split, record.camera, record.caption) for record in records]
    assert found == [
        (0, "train", 5, "a man"),
        (1, "train", 15, "a woman"),
        (2, "test", 7, "a child"),
    ]


def test_numbers_that_are_distinct_stay(tmp_path):
    entries = [dict(entry, id=10 * n) for n, entry in enumerate(trees.ICFG_PEDES_ENTRIES)]
    records = read_icfg_pedes(trees.icfg_pedes(tmp_path, entries), counts="ignore")

    assert [record.identity for record in records] == [0, 10, 20]


def test_the_other_name_of_the_list(tmp_path):
    base = trees.icfg_pedes(tmp_path, file="ICFG_PEDES.json")
    assert len(read_icfg_pedes(base, captions="each", counts="ignore")) == 3


def test_a_name_of_another_form_has_no_camera(tmp_path):
    entries = [dict(entry) for entry in trees.ICFG_PEDES_ENTRIES]
    entries[0]["file_path"] = "a.jpg"
    base = trees.icfg_pedes(tmp_path, entries)
    trees.fill(base, "imgs/a.jpg")

    assert read_icfg_pedes(base, counts="ignore")[0].camera is None


def test_official_numbers(tmp_path):
    message = "train has 2 images of 2 identities, officially 34674 images of 3102 .* 19848 .* 1000"
    with pytest.raises(ValueError, match=message):
        read_icfg_pedes(trees.icfg_pedes(tmp_path), counts="raise")
