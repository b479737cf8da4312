import pytest
import trees

from clipreid_kit.data import read_cuhk_pedes

ENTRY = {"split": "train", "id": 1, "file_path": "Market/3.jpg", "captions": ["a"]}


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


@pytest.mark.parametrize(
    ("content", "found"), [({"train": []}, "dict"), ([], "an empty list"), ("x", "str")]
)
def test_a_file_that_is_not_a_list_is_an_error(tmp_path, content, found):
    base = trees.cuhk_pedes(tmp_path, content)
    with pytest.raises(ValueError, match=rf"reid_raw\.json has to hold a list .*holds {found}\."):
        read_cuhk_pedes(base)


@pytest.mark.parametrize(
    ("entries", "number"),
    [
        (["x"], 1),
        ([{**ENTRY, "id": "1"}], 1),
        ([{**ENTRY, "split": 7}], 1),
        ([{**ENTRY, "file_path": None}], 1),
        ([{**ENTRY, "captions": []}], 1),
        ([{**ENTRY, "captions": ["a", 2]}], 1),
        ([ENTRY, {key: value for key, value in ENTRY.items() if key != "split"}], 2),
    ],
)
def test_a_bad_entry_is_named(tmp_path, entries, number):
    base = trees.cuhk_pedes(tmp_path, entries)
    with pytest.raises(ValueError, match=rf"read_cuhk_pedes: entry {number} of reid_raw\.json is "):
        read_cuhk_pedes(base)


def test_a_damaged_file_is_an_error(tmp_path):
    base = trees.cuhk_pedes(tmp_path)
    trees.write(base, "reid_raw.json", "{")

    with pytest.raises(ValueError, match=r"reid_raw\.json is not valid JSON: "):
        read_cuhk_pedes(base)
