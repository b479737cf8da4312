import pytest
import trees

from clipreid_kit.data import read_cuhk_pedes, read_online_products


def test_a_record_for_each_image_or_for_each_caption(tmp_path):
    base = trees.cuhk_pedes(tmp_path)
    first = read_cuhk_pedes(base, counts="ignore")
    assert [(r.identity, r.split, r.caption) for r in first] == [
        (1, "train", "a man"),
        (2, "val", "a woman"),
        (3, "test", "a child"),
    ]
    assert [r.extra for r in first] == [
        {"caption_2": "a tall man"}, {}, {"caption_2": "a boy", "caption_3": "a young boy"},
    ]  # fmt: skip
    assert first[0].path == f"{base}/imgs/cam_a/001.bmp"
    each = read_cuhk_pedes(base, captions="each", counts="ignore")
    assert [r.caption for r in each] == [
        "a man",
        "a tall man",
        "a woman",
        "a child",
        "a boy",
        "a young boy",
    ]
    assert [r.identity for r in each] == [1, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("captions", ["first", "each"])
def test_images_are_counted_and_not_captions(tmp_path, captions):
    with pytest.raises(
        ValueError,
        match=r"train: 1 images of 1 identities, officially 34054 .*test: 1 images of 1 .* 3074",
    ):
        read_cuhk_pedes(trees.cuhk_pedes(tmp_path), captions=captions, counts="raise")


@pytest.mark.unhooked
def test_another_choice_of_captions(tmp_path):
    with pytest.raises(ValueError, match="captions to be one of first, each"):
        read_cuhk_pedes(tmp_path, captions="all")


_GOOD = {"split": "train", "id": 1, "file_path": "Market/3.jpg", "captions": ["a"]}


@pytest.mark.parametrize(
    "entries",
    [
        {"train": []},
        [],
        ["x"],
        [{**_GOOD, "id": "1"}],
        [{**_GOOD, "captions": []}],
        [{**_GOOD, "captions": ["a", 2]}],
        [_GOOD, {key: value for key, value in _GOOD.items() if key != "split"}],
    ],
)
def test_bad_annotations_are_explained(tmp_path, entries):
    with pytest.raises(ValueError, match=r"read_cuhk_pedes: expected .* reid_raw\.json, got "):
        read_cuhk_pedes(trees.cuhk_pedes(tmp_path, entries))
    trees.write(tmp_path / "CUHK-PEDES", "reid_raw.json", "{")
    with pytest.raises(ValueError, match=r"reid_raw\.json as JSON"):
        read_cuhk_pedes(tmp_path)


def test_products_have_a_category(tmp_path):
    records = read_online_products(trees.online_products(tmp_path), counts="ignore")
    assert [(r.identity, r.split, r.extra["category"]) for r in records] == [
        (1, "train", "bicycle"),
        (1, "train", "bicycle"),
        (11319, "test", "coffee_maker"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the header 'image_id .*' in Ebay_test.txt, got an empty file"),
        ("1 2 3 a.jpg\n", "the header .*got '1 2 3 a.jpg'"),
        (
            "image_id class_id super_class_id path\n1 2 3\n",
            "rows of image_id .* in Ebay_test.txt, got '1 2 3'",
        ),
        ("image_id class_id super_class_id path\n1 b 3 a.jpg\n", "rows of .*got '1 b 3 a.jpg'"),
    ],
)
def test_bad_product_lists_are_explained(tmp_path, text, problem):
    base = trees.online_products(tmp_path)
    trees.write(base, "Ebay_test.txt", text)
    with pytest.raises(ValueError, match=f"read_online_products: expected {problem}"):
        read_online_products(base)
