import numpy as np
import pytest
import torch

from clipreid_kit import ReidResult, evaluate_reid
from clipreid_kit.data import ImageRecord, evaluate_records

QUERY = [ImageRecord("a.jpg", 7, camera=1), ImageRecord("b.jpg", 8, camera=0)]
GALLERY = [
    ImageRecord(f"{i}.jpg", identity, camera=i % 2) for i, identity in enumerate([7, 7, 8, 8, 9])
]
ROWS = np.random.default_rng(0).standard_normal((7, 4))


def evaluate_by_hand(**options):
    return evaluate_reid(
        ROWS[:2], ROWS[2:], query_ids=[7, 8], gallery_ids=[7, 7, 8, 8, 9], **options
    )


def test_is_evaluate_reid_of_the_records_identities_and_cameras():
    result = evaluate_records(ROWS[:2], ROWS[2:], QUERY, GALLERY)

    expected = evaluate_by_hand(query_cameras=[1, 0], gallery_cameras=[0, 1, 0, 1, 0])
    assert isinstance(result, ReidResult)
    assert result.to_dict() == expected.to_dict()


def test_cameras_false_leaves_nothing_out():
    result = evaluate_records(ROWS[:2], ROWS[2:], QUERY, GALLERY, cameras=False)

    assert result.to_dict() == evaluate_by_hand().to_dict()
    assert result.to_dict() != evaluate_records(ROWS[:2], ROWS[2:], QUERY, GALLERY).to_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"junk_ids": (9,)},
        {"distance": "euclidean"},
        {"ties": "optimistic"},
        {"max_rank": 2},
    ],
)
def test_every_option_reaches_evaluate_reid(options):
    # The first query and two gallery rows coincide, so that a tie has to be decided.
    rows = ROWS.copy()
    rows[[2, 4]] = rows[0]
    rows[3] = 4 * rows[5]

    result = evaluate_records(rows[:2], rows[2:], QUERY, GALLERY, cameras=False, **options)
    default = evaluate_records(rows[:2], rows[2:], QUERY, GALLERY, cameras=False)
    expected = evaluate_reid(
        rows[:2], rows[2:], query_ids=[7, 8], gallery_ids=[7, 7, 8, 8, 9], **options
    )

    def measures(result):
        return result.to_dict(), result.num_gallery, result.cmc.tolist()

    assert measures(result) == measures(expected)
    assert measures(result) != measures(default)


def test_without_a_gallery_every_query_ranks_the_others():
    result = evaluate_records(torch.from_numpy(ROWS[2:]), None, GALLERY, None)

    expected = evaluate_reid(ROWS[2:], query_ids=[7, 7, 8, 8, 9])
    assert result.to_dict() == expected.to_dict()
    assert result.num_valid_queries == 4


def test_one_embedding_for_each_record():
    with pytest.raises(ValueError, match="got 3 query embeddings for 2 query records"):
        evaluate_records(ROWS[:3], ROWS[2:], QUERY, GALLERY)
    with pytest.raises(ValueError, match="got 4 gallery embeddings for 5 gallery records"):
        evaluate_records(ROWS[:2], ROWS[3:], QUERY, GALLERY)


def test_half_a_gallery_is_an_error():
    with pytest.raises(ValueError, match="gallery_records is given without gallery_embeddings"):
        evaluate_records(ROWS[:2], None, QUERY, GALLERY)
    with pytest.raises(ValueError, match="gallery_embeddings is given without gallery_records"):
        evaluate_records(ROWS[:2], ROWS[2:], QUERY, None)


def test_cameras_that_are_asked_for_have_to_be_there():
    with pytest.raises(ValueError, match="camera"):
        evaluate_records(
            ROWS[:2], ROWS[2:], QUERY, [*GALLERY[1:], ImageRecord("x.jpg", 7)], cameras=True
        )
