import pytest
import torch
from protocol_rows import on_circle

from clipreid_kit import InShopProtocol, TextToPersonProtocol

IMAGES = on_circle(0, 10, 25, 60)
IMAGE_IDS = [7, 3, 7, 3]


def test_worked_by_hand():
    # Two captions of person 7 and one of person 3; angles to the images are
    #    1: 1, 9, 24, 59     ranks of 7: 1, 3
    #   12: 12, 2, 13, 48    ranks of 7: 2, 3
    #   50: 50, 40, 25, 10   ranks of 3: 1, 3
    result = TextToPersonProtocol().evaluate(
        on_circle(1, 12, 50), IMAGES, text_ids=[7, 7, 3], image_ids=IMAGE_IDS
    )

    assert result.first_rank.tolist() == [1, 2, 1]
    assert (result.rank(1), result.rank(5), result.rank(10)) == (2 / 3, 1.0, 1.0)
    average_precision = [(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, (1 + 2 / 3) / 2]
    assert result.average_precision.tolist() == pytest.approx(average_precision)
    assert result.inverse_negative_penalty.tolist() == pytest.approx([2 / 3] * 3)
    assert (result.num_queries, result.num_gallery) == (3, 4)


def test_an_image_of_the_person_matches_whichever_image_was_described():
    one = TextToPersonProtocol().evaluate(
        on_circle(25), IMAGES, text_ids=["b"], image_ids=["b", "a", "c", "a"]
    )
    assert one.first_rank.tolist() == [3]  # the only image of b, though c is the one that fits


def test_the_rule_is_that_of_queries_and_a_gallery():
    draw = torch.Generator().manual_seed(0)
    texts, images = torch.randn(9, 4, generator=draw), torch.randn(20, 4, generator=draw)
    sides = (torch.arange(9) % 3, torch.arange(20) % 4)
    got = TextToPersonProtocol(distance="euclidean", ties="mean", max_rank=7).evaluate(
        texts, images, text_ids=sides[0], image_ids=sides[1]
    )
    want = InShopProtocol(distance="euclidean", ties="mean", max_rank=7).evaluate(
        texts, images, query_ids=sides[0], gallery_ids=sides[1]
    )
    assert got.to_dict() == want.to_dict()
    assert len(got.cmc) == 7


@pytest.mark.unhooked
def test_an_unknown_option_is_an_error():
    with pytest.raises(ValueError, match="TextToPersonProtocol: expected ties to be one of"):
        TextToPersonProtocol(ties="random")
