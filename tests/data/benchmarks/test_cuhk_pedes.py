import pytest
import trees

from clipreid_kit.data import read_cuhk_pedes


def test_one_record_for_each_image(tmp_path):
    base = trees.cuhk_pedes(tmp_path)
    records = read_cuhk_pedes(base, counts="ignore")

    assert [(record.identity, record.split, record.caption) for record in records] == [
        (1, "train", "a man"),
        (2, "val", "a woman"),
        (3, "test", "a child"),
    ]
    assert [record.extra for record in records] == [
        {"caption_2": "a tall man"},
        {},
        {"caption_2": "a boy", "caption_3": "a young boy"},
    ]
    assert records[0].path == f"{base}/imgs/cam_a/001.bmp"


def test_one_record_for_each_caption(tmp_path):
    records = read_cuhk_pedes(trees.cuhk_pedes(tmp_path), captions="each", counts="ignore")

    assert [(record.identity, record.caption) for record in records] == [
        (1, "a man"),
        (1, "a tall man"),
        (2, "a woman"),
        (3, "a child"),
        (3, "a boy"),
        (3, "a young boy"),
    ]


@pytest.mark.parametrize("captions", ["first", "each"])
def test_images_are_counted_and_not_captions(tmp_path, captions):
    message = "train has 1 images of 1 identities, officially 34054 .*test has 1 images .* 3074"
    with pytest.raises(ValueError, match=message):
        read_cuhk_pedes(trees.cuhk_pedes(tmp_path), captions=captions, counts="raise")


@pytest.mark.unhooked
def test_another_choice_of_captions_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="captions to be one of first, each"):
        read_cuhk_pedes(tmp_path, captions="all")
