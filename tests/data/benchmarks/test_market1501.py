import pytest
import trees

from clipreid_kit.data import read_market1501


def rows(records):
    return [(record.identity, record.camera, record.split) for record in records]


def test_junk_is_left_out_and_distractors_are_kept(tmp_path):
    records = read_market1501(trees.market1501(tmp_path), counts="ignore")

    assert rows(records) == [
        (2, 1, "train"),
        (2, 3, "train"),
        (1, 1, "query"),
        (0, 4, "gallery"),
        (1, 2, "gallery"),
    ]


def test_junk_can_be_kept(tmp_path):
    base = trees.market1501(tmp_path)
    without_junk = rows(read_market1501(base, counts="ignore"))

    records = read_market1501(base, junk=True, counts="ignore")
    assert rows(records) == [*without_junk[:3], (-1, 3, "gallery"), *without_junk[3:]]


def test_junk_does_not_count(tmp_path):
    message = "gallery has 2 images of 2 identities, officially 15913 images of 751 identities"
    with pytest.raises(ValueError, match=message):
        read_market1501(trees.market1501(tmp_path), junk=True, counts="raise")


def test_an_image_with_another_name_is_an_error(tmp_path):
    base = trees.market1501(tmp_path)
    trees.fill(base, "query/holiday.jpg")

    message = r"1 images in query are not named <identity>_c.*, such as query/holiday\.jpg\."
    with pytest.raises(ValueError, match=message):
        read_market1501(base)


def test_a_folder_without_images_is_an_error(tmp_path):
    base = trees.market1501(tmp_path)
    (base / "query" / "0001_c1s1_001051_00.jpg").rename(base / "query" / "a.txt")

    with pytest.raises(ValueError, match=r"there are no images in .*query; expected images named"):
        read_market1501(base)
