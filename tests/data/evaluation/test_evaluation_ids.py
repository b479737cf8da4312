import numpy as np
import pytest

from clipreid_kit import CUHK03Protocol, InShopProtocol, Market1501Protocol, evaluate_reid
from clipreid_kit.data import ImageRecord, evaluation_ids

QUERY = [ImageRecord("a.jpg", 7, camera=1), ImageRecord("b.jpg", 8, camera="yard")]
GALLERY = [
    ImageRecord(f"{i}.jpg", identity, camera=i % 2) for i, identity in enumerate([7, 7, 8, 8, 9])
]
ROWS = np.random.default_rng(0).standard_normal((7, 4))


def test_the_columns_fit_evaluations_with_cameras():
    columns = evaluation_ids(QUERY, GALLERY)
    by_hand = evaluate_reid(
        ROWS[:2],
        ROWS[2:],
        query_ids=[7, 8],
        gallery_ids=[7, 7, 8, 8, 9],
        query_cameras=["1", "yard"],
        gallery_cameras=list("01010"),
    )

    result = evaluate_reid(ROWS[:2], ROWS[2:], **columns)
    assert result.to_dict() == by_hand.to_dict()

    market = Market1501Protocol().evaluate(ROWS[:2], ROWS[2:], **columns)
    assert market.to_dict() == by_hand.to_dict()

    cuhk03 = CUHK03Protocol(num_splits=2).evaluate(ROWS[:2], ROWS[2:], **columns)
    assert cuhk03.results[0].num_valid_queries == 2


def test_the_columns_fit_evaluations_without_cameras():
    columns = evaluation_ids(QUERY, GALLERY, cameras=False)

    assert set(columns) == {"query_ids", "gallery_ids"}
    assert InShopProtocol().evaluate(ROWS[:2], ROWS[2:], **columns).num_valid_queries == 2


def test_without_a_gallery_every_query_ranks_the_others():
    columns = evaluation_ids(GALLERY)

    assert set(columns) == {"query_ids"}
    assert evaluate_reid(ROWS[2:], **columns).num_valid_queries == 4


def test_cameras_are_returned_if_every_record_has_one():
    one_without = [*GALLERY, ImageRecord("x.jpg", 7)]

    assert "query_cameras" in evaluation_ids(QUERY, GALLERY)
    with pytest.warns(UserWarning, match=r"1 of 8 records have no camera \(x\.jpg, \.\.\.\)"):
        assert "query_cameras" not in evaluation_ids(QUERY, one_without)
    assert "query_cameras" not in evaluation_ids(QUERY, one_without, cameras=False)


def test_cameras_that_are_asked_for_have_to_be_there():
    one_without = [*GALLERY, ImageRecord("x.jpg", 7)]
    with pytest.raises(ValueError, match=r"1 records have no camera \(x\.jpg, \.\.\.\)"):
        evaluation_ids(QUERY, one_without, cameras=True)


def test_cameras_need_a_gallery():
    with pytest.raises(ValueError, match="cameras=True needs a gallery"):
        evaluation_ids(QUERY, cameras=True)


def test_identities_of_two_types_are_an_error():
    with pytest.raises(ValueError, match=r"1 of 3 identities are strings \('7', \.\.\.\)"):
        evaluation_ids(QUERY, [ImageRecord("x.jpg", "7", camera=1)])


def test_cameras_of_two_files_compare_however_they_are_written():
    query = [ImageRecord("a.jpg", 7, camera=2)]
    gallery = [ImageRecord("b.jpg", 7, camera="02"), ImageRecord("c.jpg", 7, camera="gate")]
    columns = evaluation_ids(query, gallery)
    assert columns["query_cameras"].tolist() == ["2"]
    assert columns["gallery_cameras"].tolist() == ["2", "gate"]


def test_two_cameras_that_are_one_number_are_refused():
    gallery = [ImageRecord("b.jpg", 7, camera="02"), ImageRecord("c.jpg", 7, camera="2")]
    with pytest.raises(ValueError, match=r"the cameras '02' and '2' are one number\. Write each"):
        evaluation_ids(gallery[:1], gallery)
