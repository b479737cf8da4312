import numpy as np
import pytest

from clipreid_kit import CUHK03Protocol, InShopProtocol, Market1501Protocol, evaluate_reid
from clipreid_kit.data import ImageRecord, evaluation_ids

QUERY = [ImageRecord("a.jpg", 7, camera=1), ImageRecord("b.jpg", 8, camera="yard")]
GALLERY = [
    ImageRecord(f"{i}.jpg", identity, camera=i % 2) for i, identity in enumerate([7, 7, 8, 8, 9])
]
ROWS = np.random.default_rng(0).standard_normal((7, 4))


def test_the_columns_fit_every_evaluation():
    columns = evaluation_ids(QUERY, GALLERY)
    sides = ROWS[:2], ROWS[2:]
    by_hand = evaluate_reid(
        *sides,
        query_ids=[7, 8],
        gallery_ids=[7, 7, 8, 8, 9],
        query_cameras=["1", "yard"],
        gallery_cameras=list("01010"),
    )
    assert evaluate_reid(*sides, **columns).to_dict() == by_hand.to_dict()
    assert Market1501Protocol().evaluate(*sides, **columns).to_dict() == by_hand.to_dict()
    assert (
        CUHK03Protocol(num_splits=2).evaluate(*sides, **columns).results[0].num_valid_queries == 2
    )
    plain = evaluation_ids(QUERY, GALLERY, cameras=False)
    assert set(plain) == {"query_ids", "gallery_ids"}
    assert InShopProtocol().evaluate(*sides, **plain).num_valid_queries == 2


def test_without_a_gallery_the_queries_search_each_other():
    assert set(evaluation_ids(GALLERY)) == {"query_ids"}
    assert evaluate_reid(ROWS[2:], **evaluation_ids(GALLERY)).num_valid_queries == 4


def test_cameras_are_used_where_all_have_one():
    bare = [*GALLERY, ImageRecord("x.jpg", 7)]
    assert "query_cameras" not in evaluation_ids(QUERY, bare)
    with pytest.raises(
        ValueError,
        match=r"evaluation_ids: expected a gallery, and a camera .* none for 1 \(x.jpg",
    ):
        evaluation_ids(QUERY, bare, cameras=True)
    with pytest.raises(ValueError, match="got no gallery"):
        evaluation_ids(QUERY, cameras=True)


def test_identities_of_two_kinds_are_refused():
    with pytest.raises(
        ValueError,
        match="evaluation_ids: expected identities that are all integers or all strings",
    ):
        evaluation_ids(QUERY, [ImageRecord("x.jpg", "7", camera=1)])
