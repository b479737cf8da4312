import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import protocols as oracle
from oracles import reid
from protocol_rows import on_circle

from clipreid_kit import CUHK03Protocol, KReciprocalReranker
from clipreid_kit.metrics.protocols import single_shot


def sides(seed, num_queries=6, num_gallery=16):
    rng = np.random.default_rng(seed)
    queries, gallery = (
        rng.integers(-3, 4, (n, 3)).astype(np.float32) for n in (num_queries, num_gallery)
    )
    arguments = {
        "query_ids": rng.integers(0, 4, num_queries),
        "gallery_ids": rng.integers(0, 4, num_gallery),
        "query_cameras": rng.integers(0, 2, num_queries),
        "gallery_cameras": rng.integers(0, 3, num_gallery),
    }

    return queries, gallery, arguments


def test_by_hand():
    # by other cameras: identity 7 at 10 or at 30 degrees, identity 3 at 20; the images by camera 1,
    # at 1 and 2 degrees, are left out
    gallery = on_circle(1, 2, 10, 30, 20)
    results = CUHK03Protocol(num_splits=40).evaluate(
        on_circle(0),
        gallery,
        query_ids=[7],
        gallery_ids=[7, 3, 7, 7, 3],
        query_cameras=[1],
        gallery_cameras=[1, 1, 2, 2, 3],
    )
    found = results.values("mean_ap")

    # one of the two matches in each draw, never both, so AP is 1 / rank
    assert set(found.tolist()) == {0.5, 1.0}
    assert 10 < (found == 1).sum() < 30
    assert all(result.num_positives.tolist() == [1] for result in results.results)
    assert all(result.num_gallery == 2 for result in results.results)
    assert results.protocol == "CUHK03 single shot, 40 draws (seed 0)"


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_each_draw_equals_brute_force(seed):
    queries, gallery, arguments = sides(seed)
    similarity = reid.exact(queries, gallery, "cosine")
    drawn = []
    original = single_shot.draw_one_each

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            single_shot, "draw_one_each", lambda *a: drawn.append(original(*a)) or drawn[-1]
        )

        if oracle.single_shot_expectation(similarity, *arguments.values()) == [None] * 6:
            with pytest.raises(ValueError, match="none by another camera"):
                CUHK03Protocol(num_splits=2, seed=seed).evaluate(queries, gallery, **arguments)
            return

        results = CUHK03Protocol(num_splits=2, seed=seed).evaluate(queries, gallery, **arguments)

    cameras = np.unique(arguments["query_cameras"])
    for which, result in enumerate(results.results):
        for place, camera in enumerate(cameras):
            others = np.flatnonzero(arguments["gallery_cameras"] != camera)
            rows = others[drawn[which * len(cameras) + place]]

            assert sorted(arguments["gallery_ids"][rows]) == sorted(
                set(arguments["gallery_ids"][others])
            )

            own = np.flatnonzero(arguments["query_cameras"] == camera)
            ids = arguments["query_ids"][own], arguments["gallery_ids"][rows]

            for i, row in zip(own, reid.evaluate(similarity[np.ix_(own, rows)], *ids), strict=True):
                assert result.num_positives[i] == (row is not None)
                if row is not None:
                    assert result.average_precision[i] == pytest.approx(row[0])
                    assert result.first_rank[i] == row[2]


def test_mean_over_draws_is_the_expectation():
    queries, gallery, arguments = sides(6, 6, 10)
    arguments["query_ids"][0] = arguments["gallery_ids"][0]
    arguments["query_cameras"][0], arguments["gallery_cameras"][0] = 0, 1
    want = oracle.single_shot_expectation(
        reid.exact(queries, gallery, "cosine"), *arguments.values()
    )
    results = CUHK03Protocol(num_splits=150).evaluate(queries, gallery, **arguments)

    for i, value in enumerate(want):
        found = [result.average_precision[i] for result in results.results]
        if value is None:
            assert np.isnan(found).all()
        else:
            assert np.mean(found) == pytest.approx(
                value, abs=4 * np.std(found) / np.sqrt(150) + 1e-9
            )


def test_options_reach_the_evaluation():
    queries, gallery, arguments = sides(3)
    results = CUHK03Protocol(num_splits=2, ties="mean", max_rank=2).evaluate(
        queries, gallery, **arguments
    )

    assert results.results[0].first_rank.dtype == np.float64
    assert len(results.cmc) == 2

    again = CUHK03Protocol(num_splits=2, rerank=KReciprocalReranker).evaluate(
        queries, gallery, **arguments
    )

    assert again.protocol.endswith("re-ranked")
    np.testing.assert_array_equal(again.results[0].num_positives, results.results[0].num_positives)
    np.testing.assert_array_equal(again.results[0].query_ids, arguments["query_ids"])


@pytest.mark.unhooked
def test_bad_input():
    queries, gallery, arguments = sides(0)
    with pytest.raises(
        ValueError,
        match=r"query_cameras and gallery_cameras are required. Galleries are drawn from other",
    ):
        CUHK03Protocol().evaluate(queries, gallery, **{**arguments, "query_cameras": None})

    same = {"query_cameras": np.zeros(6, int), "gallery_cameras": np.zeros(16, int)}
    with pytest.raises(
        ValueError,
        match="6 of 6 queries have their identity in the gallery, none by another camera",
    ):
        CUHK03Protocol().evaluate(queries, gallery, **{**arguments, **same})

    with pytest.raises(
        ValueError, match="CUHK03Protocol: expected query_embeddings and gallery_embeddings of"
    ):
        CUHK03Protocol().evaluate(queries, gallery[:, :2], **arguments)

    gallery[3] = np.nan
    with pytest.raises(
        ValueError, match=r"CUHK03Protocol: expected finite gallery_embeddings.*first: \[3\]"
    ):
        CUHK03Protocol().evaluate(queries, gallery, **arguments)
