import pytest
import trees

from clipreid_kit.data import read_rstpreid


def test_images_are_named_by_img_path(tmp_path):
    base = trees.rstpreid(tmp_path)
    records = read_rstpreid(base, counts="ignore")

    found = [(record.identity, record.split, record.camera) for record in records]
    assert found == [(0, "train", 14), (3701, "val", 1), (3901, "test", 7)]
    assert records[0].path == f"{base}/imgs/0000_c14_0031.jpg"


def test_one_record_for_each_caption(tmp_path):
    records = read_rstpreid(trees.rstpreid(tmp_path), captions="each", counts="ignore")
    assert [record.caption for record in records] == list("abcdef")


def test_official_numbers(tmp_path):
    message = "train has 1 images of 1 identities, officially 18505 images of 3701 identities"
    with pytest.raises(ValueError, match=message):
        read_rstpreid(trees.rstpreid(tmp_path), counts="raise")
