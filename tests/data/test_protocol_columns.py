import numpy as np
import pytest

from clipreid_kit import CUHK03Protocol, InShopProtocol, Market1501Protocol, evaluate_reid
from clipreid_kit.data import ImageRecord, protocol_columns

QUERY = [ImageRecord("a.jpg", 7, camera=1), ImageRecord("b.jpg", 8, camera="yard")]
GALLERY = [
    ImageRecord(f"{i}.jpg", identity, camera=i % 2) for i, identity in enumerate([7, 7, 8, 8, 9])
]
ROWS = np.random.default_rng(0).standard_normal((7, 4))


def test_the_columns_fit_every_evaluation():
    columns = protocol_columns(QUERY, GALLERY)
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
    plain = protocol_columns(QUERY, GALLERY, cameras=False)
    assert set(plain) == {"query_ids", "gallery_ids"}
    assert InShopProtocol().evaluate(*sides, **plain).num_valid_queries == 2


def test_without_a_gallery_the_queries_search_each_other():
    assert set(protocol_columns(GALLERY)) == {"query_ids"}
    assert evaluate_reid(ROWS[2:], **protocol_columns(GALLERY)).num_valid_queries == 4


def test_cameras_are_used_where_all_have_one():
    bare = [*GALLERY, ImageRecord("x.jpg", 7)]
    assert "query_cameras" not in protocol_columns(QUERY, bare)
    with pytest.raises(
        ValueError,
        match=r"protocol_columns: expected a gallery, and a camera .* none for 1 \(x.jpg",
    ):
        protocol_columns(QUERY, bare, cameras=True)
    with pytest.raises(ValueError, match="got no gallery"):
        protocol_columns(QUERY, cameras=True)


def test_identities_of_two_kinds_are_refused():
    with pytest.raises(
        ValueError,
        match="protocol_columns: expected identities that are all integers or all strings",
    ):
        protocol_columns(QUERY, [ImageRecord("x.jpg", "7", camera=1)])
