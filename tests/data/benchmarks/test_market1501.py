import pytest
import trees

from clipreid_kit.data import read_cuhk03, read_market1501, read_veri776


def _rows(records):
    return [(r.identity, r.camera, r.split) for r in records]


def test_market_leaves_junk_out_and_keeps_distractors(tmp_path):
    base = trees.market1501(tmp_path)
    expected = [
        (2, 1, "train"),
        (2, 3, "train"),
        (1, 1, "query"),
        (0, 4, "gallery"),
        (1, 2, "gallery"),
    ]
    assert _rows(read_market1501(base, counts="ignore")) == expected
    with_junk = _rows(read_market1501(base, junk=True, counts="ignore"))
    assert with_junk == [*expected[:3], (-1, 3, "gallery"), *expected[3:]]


def test_junk_does_not_count(tmp_path):
    base = trees.market1501(tmp_path)
    with pytest.raises(
        ValueError,
        match="gallery: 2 images of 2 identities, officially 15913 images of 751 identities",
    ):
        read_market1501(base, junk=True, counts="raise")


def test_market_with_a_stray_or_without_images(tmp_path):
    base = trees.market1501(tmp_path)
    trees.fill(base, "query/holiday.jpg")
    with pytest.raises(
        ValueError,
        match=r"images named <identity>_c.* in query, got 1 named otherwise, such as query/holiday",
    ):
        read_market1501(base)
    (base / "query" / "holiday.jpg").unlink()
    (base / "query" / "0001_c1s1_001051_00.jpg").rename(base / "query" / "a.txt")
    with pytest.raises(ValueError, match=r"in query, got none in .*query"):
        read_market1501(base)


@pytest.mark.unhooked
def test_cuhk03_has_two_kinds_of_boxes(tmp_path):
    base = trees.cuhk03(tmp_path)
    labeled = read_cuhk03(base, boxes="labeled", counts="ignore")
    assert _rows(labeled) == [(1, 1, "train"), (3, 1, "query"), (3, 2, "gallery")]
    detected = read_cuhk03(base, boxes="detected", counts="ignore")
    assert _rows(detected) == [(1, 1, "train"), (1, 2, "train"), (3, 1, "query"), (3, 2, "gallery")]
    assert all("detected" in record.path for record in detected)
    with pytest.raises(
        ValueError, match=r"train: 1 images of 1 identities, officially 7368 .*gallery: .* 5328"
    ):
        read_cuhk03(base, boxes="labeled", counts="raise")
    with pytest.raises(
        ValueError, match=r"train: 2 images of 1 identities, officially 7365 .*gallery: .* 5332"
    ):
        read_cuhk03(base, boxes="detected", counts="raise")
    with pytest.raises(
        ValueError, match="read_cuhk03: expected boxes to be one of labeled, detected"
    ):
        read_cuhk03(base, boxes="drawn")


def test_veri_cameras_and_a_query_that_is_in_the_gallery(tmp_path):
    records = read_veri776(trees.veri776(tmp_path), counts="ignore")
    assert _rows(records) == [
        (1, 1, "train"),
        (2, 2, "query"),
        (2, 2, "gallery"),
        (2, 20, "gallery"),
    ]
