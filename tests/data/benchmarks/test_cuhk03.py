import pytest
import trees

from clipreid_kit.data import read_cuhk03


def rows(records):
    return [(record.identity, record.camera, record.split) for record in records]


def test_labeled_boxes(tmp_path):
    records = read_cuhk03(trees.cuhk03(tmp_path), boxes="labeled", counts="ignore")

    assert rows(records) == [(1, 1, "train"), (3, 1, "query"), (3, 2, "gallery")]
    assert all("labeled" in record.path for record in records)


def test_detected_boxes(tmp_path):
    records = read_cuhk03(trees.cuhk03(tmp_path), boxes="detected", counts="ignore")

    assert rows(records) == [(1, 1, "train"), (1, 2, "train"), (3, 1, "query"), (3, 2, "gallery")]
    assert all("detected" in record.path for record in records)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("labeled", "train has 1 images of 1 identities, officially 7368 .*gallery .* 5328"),
        ("detected", "train has 2 images of 1 identities, officially 7365 .*gallery .* 5332"),
    ],
)
def test_official_numbers_are_those_of_the_boxes(tmp_path, boxes, message):
    with pytest.raises(ValueError, match=message):
        read_cuhk03(trees.cuhk03(tmp_path), boxes=boxes, counts="raise")


@pytest.mark.unhooked
def test_other_boxes_are_an_error(tmp_path):
    message = "read_cuhk03: expected boxes to be one of labeled, detected"
    with pytest.raises(ValueError, match=message):
        read_cuhk03(tmp_path, boxes="drawn")
