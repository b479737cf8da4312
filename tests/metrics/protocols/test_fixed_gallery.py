from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import reid as oracle
from protocol_rows import on_circle

from clipreid_kit import (
    InShopProtocol,
    KReciprocalReranker,
    LeaveOneOutProtocol,
    Market1501Protocol,
    evaluate_reid_similarity,
    k_reciprocal_rerank,
)


def test_market1501_by_hand():
    # nearest first: own camera (left out), junk (left out), distractor 0, another person by the
    # query's camera, match
    gallery = on_circle(1, 2, 3, 4, 5, 6, 7)
    ids, cameras = [7, -1, 0, 9, 7, 7, -1], [1, 2, 2, 1, 2, 1, 3]
    result = Market1501Protocol().evaluate(
        on_circle(0),
        gallery,
        query_ids=[7],
        gallery_ids=ids,
        query_cameras=[1],
        gallery_cameras=cameras,
    )

    assert result.first_rank.tolist() == [3]
    assert result.num_positives.tolist() == [1]
    assert result.num_gallery == 5

    names = {"query_ids": ["0007"], "gallery_ids": [f"{i:04d}" if i >= 0 else "-1" for i in ids]}
    named = Market1501Protocol().evaluate(
        on_circle(0),
        gallery,
        **names,
        query_cameras=["c1"],
        gallery_cameras=[f"c{c}" for c in cameras],
    )

    assert (named.mean_ap, named.num_gallery) == (result.mean_ap, 5)


@given(st.integers(0, 10_000))
def test_market1501_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = (
        rng.integers(-2, 3, (5, 3)).astype(np.float32),
        rng.integers(-2, 3, (20, 3)).astype(np.float32),
    )
    ids = rng.integers(1, 4, 5), rng.integers(-1, 5, 20)
    cameras = rng.integers(0, 2, 5), rng.integers(0, 3, 20)
    want = oracle.evaluate(oracle.exact(queries, gallery, "cosine"), *ids, [cameras], junk=[-1])
    arguments = {"query_ids": ids[0], "gallery_ids": ids[1]}
    arguments |= {"query_cameras": cameras[0], "gallery_cameras": cameras[1]}

    if all(row is None for row in want):
        with pytest.raises(ValueError, match="no query has a match"):
            Market1501Protocol().evaluate(queries, gallery, **arguments)
        return

    result = Market1501Protocol().evaluate(queries, gallery, **arguments)
    for i, row in enumerate(want):
        assert (result.num_positives[i] == 0) == (row is None)
        if row is not None:
            assert result.average_precision[i] == pytest.approx(row[0], abs=1e-12)
            assert result.first_rank[i] == row[2]

    assert result.num_gallery == (ids[1] != -1).sum()


def test_the_curve_never_decreases_if_few_images_are_left():
    # the first query has two images left and finds its match first;
    # code that pads its row with zeros has a curve that decreases
    result = Market1501Protocol().evaluate(
        on_circle(0, 90),
        on_circle(1, 2, 3, 4, 5),
        query_ids=[1, 1],
        gallery_ids=[1, 1, 1, 1, 2],
        query_cameras=[1, 2],
        gallery_cameras=[1, 1, 1, 2, 2],
    )

    assert result.first_rank.tolist() == [1, 2]
    assert (np.diff(result.cmc) >= 0).all()
    assert len(result.cmc) == 5
    assert result.cmc[-1] == 1


def test_in_shop_leaves_nothing_out():
    ids = {"query_ids": ["a", "b"], "gallery_ids": ["a", "b", "a"]}
    result = InShopProtocol().evaluate(on_circle(0, 50), on_circle(10, 20, 60), **ids)

    # the second query: its item at 30 degrees, another item's image at 10 degrees
    np.testing.assert_allclose(result.average_precision, [(1 + 2 / 3) / 2, 1 / 2])
    assert (result.rank(1), result.rank(2)) == (0.5, 1)
    assert result.num_gallery == 3


def test_leave_one_out_counts_a_copy_but_not_itself():
    rows, ids = on_circle(0, 0, 10, 40), [1, 1, 2, 3]
    result = LeaveOneOutProtocol().evaluate(rows, ids)

    assert result.num_positives.tolist() == [1, 1, 0, 0]
    assert result.mean_ap == 1
    assert result.num_valid_queries == 2


def test_re_ranked_by_option_equals_re_ranked_by_matrix():
    rng = np.random.default_rng(0)
    ids = np.arange(60) % 6
    rows = torch.from_numpy(rng.standard_normal((6, 8))[ids] + rng.standard_normal((60, 8))).float()
    sides = {"query_ids": ids[:12], "gallery_ids": ids[12:]}
    cameras = {"query_cameras": ids[:12] % 2, "gallery_cameras": np.arange(48) % 3}
    matrix = -k_reciprocal_rerank(rows[:12], rows[12:], k1=6, k2=2)
    want = evaluate_reid_similarity(matrix, **sides)
    rerank = partial(KReciprocalReranker, k1=6, k2=2)
    got = InShopProtocol(rerank=rerank).evaluate(rows[:12], rows[12:].numpy(), **sides)

    np.testing.assert_allclose(got.average_precision, want.average_precision, atol=1e-6)

    crossed = Market1501Protocol(rerank=rerank).evaluate(rows[:12], rows[12:], **sides, **cameras)
    np.testing.assert_array_equal(
        crossed.num_positives,
        evaluate_reid_similarity(matrix, **sides, **cameras).num_positives,
    )
    assert got.mean_ap != InShopProtocol().evaluate(rows[:12], rows[12:], **sides).mean_ap


@pytest.mark.unhooked
def test_bad_input():
    rows = np.eye(2, dtype=np.float32)
    ids = {"query_ids": [0, 1], "gallery_ids": [0, 1]}

    with pytest.raises(
        ValueError,
        match=r"query_cameras and gallery_cameras are required. For data without cameras use",
    ):
        Market1501Protocol().evaluate(rows, rows, **ids, query_cameras=None, gallery_cameras=None)

    with pytest.raises(ValueError, match="InShopProtocol: expected ties to be one of"):
        InShopProtocol(ties="random")
    with pytest.raises(
        ValueError, match="LeaveOneOutProtocol: expected max_rank as a whole number >= 1"
    ):
        LeaveOneOutProtocol(max_rank=0)

    with pytest.raises(
        ValueError,
        match=r"distance has no effect with rerank; pass it to the re-ranker: functools.partial",
    ):
        InShopProtocol(distance="euclidean", rerank=KReciprocalReranker)

    with pytest.raises(
        ValueError, match="rerank is a function such as KReciprocalReranker, or None; got True"
    ):
        InShopProtocol(rerank=True)

    with pytest.raises(
        ValueError, match="Market1501Protocol: expected junk_ids as a list of ids, got -1"
    ):
        Market1501Protocol(junk_ids=-1)

    with pytest.raises(ValueError, match="gallery_ids as an array, got rows of unequal length"):
        Market1501Protocol().evaluate(
            rows,
            rows,
            query_ids=[0, 1],
            gallery_ids=[[0], [0, 1]],
            query_cameras=[0, 0],
            gallery_cameras=[1, 1],
        )

    # a matrix of distances would be ranked upside down
    with pytest.raises(ValueError, match="rerank returns a KReciprocalReranker, got Tensor"):
        InShopProtocol(rerank=k_reciprocal_rerank).evaluate(rows, rows, **ids)

    with pytest.raises(AttributeError):
        InShopProtocol().ties = "mean"
