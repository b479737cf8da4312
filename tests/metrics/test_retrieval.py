import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import retrieval as oracle

from clipreid_kit.metrics import (
    evaluate_reid,
    evaluate_retrieval,
    evaluate_retrieval_similarity,
)
from clipreid_kit.metrics._engine import count_nonmatches

TIES = ["pessimistic", "optimistic", "mean"]


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    num_queries, num_gallery, dim = (
        draw(st.integers(1, 6)),
        draw(st.integers(1, 25)),
        draw(st.integers(1, 5)),
    )
    levels = draw(st.sampled_from([1, 2, 1000]))  # few levels: many exact ties
    queries = rng.integers(-levels, levels + 1, (num_queries, dim)).astype(np.float32)
    gallery = rng.integers(-levels, levels + 1, (num_gallery, dim)).astype(np.float32)
    relevant = [
        rng.permutation(num_gallery)[: rng.integers(0, num_gallery + 1)].tolist() for _ in queries
    ]

    return queries, gallery, relevant


def compare(result, want, k):
    assert result.num_queries == len(want)

    valid = [row for row in want if row is not None]
    assert result.num_valid_queries == len(valid)

    for name in valid[0]:
        options = {"k": k} if name in ("hit_rate", "recall", "precision", "ndcg") else {}
        each = result.of_each(name, **options)
        expected = [np.nan if row is None else row[name] for row in want]
        np.testing.assert_allclose(each, expected, atol=1e-12, err_msg=name)

    means = {name: np.mean([row[name] for row in valid]) for name in valid[0]}
    assert result.hit_rate(k) == pytest.approx(means["hit_rate"])
    assert result.recall(k) == pytest.approx(means["recall"])
    assert result.precision(k) == pytest.approx(means["precision"])
    assert result.ndcg(k) == pytest.approx(means["ndcg"])
    assert result.mean_ap == pytest.approx(means["average_precision"])
    assert result.mean_reciprocal_rank == pytest.approx(means["reciprocal_rank"])
    assert result.r_precision == pytest.approx(means["r_precision"])
    assert result.mean_ap_at_r == pytest.approx(means["average_precision_at_r"])


@given(cases(), st.sampled_from(TIES), st.integers(1, 30))
def test_equals_brute_force(case, ties, k):
    queries, gallery, relevant = case
    similarity = -oracle.squared_distance(queries, gallery)  # of integers: exact
    want = oracle.evaluate(similarity, relevant, k, ties=ties)

    if not any(relevant):
        return

    rows = torch.from_numpy(queries), torch.from_numpy(gallery)
    compare(evaluate_retrieval(*rows, relevant=relevant, distance="euclidean", ties=ties), want, k)

    given_values = torch.from_numpy(similarity)
    compare(evaluate_retrieval_similarity(given_values, relevant=relevant, ties=ties), want, k)


@given(st.integers(0, 2**31), st.integers(2, 25), st.sampled_from(TIES))
def test_leave_one_out(seed, total, ties):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (total, 3)).astype(np.float32)
    ids = rng.integers(0, 3, total)
    ids[0] = ids[1]
    relevant = [np.flatnonzero(ids == x).tolist() for x in ids]
    similarity = -oracle.squared_distance(rows, rows)
    want = oracle.evaluate(similarity, relevant, 3, ties=ties, leave_one_out=True)
    result = evaluate_retrieval(
        torch.from_numpy(rows), query_ids=ids, distance="euclidean", ties=ties
    )

    compare(result, want, 3)
    assert result.num_gallery == total - 1

    listed = evaluate_retrieval(
        torch.from_numpy(rows), relevant=relevant, distance="euclidean", ties=ties
    )

    assert listed.ranks.tolist() == result.ranks.tolist()


def clustered(seed, num_queries=60, num_gallery=300, dim=64):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dim))
    query_ids, gallery_ids = rng.integers(0, 20, num_queries), rng.integers(0, 20, num_gallery)
    queries = centres[query_ids] + 2 * rng.standard_normal((num_queries, dim))
    gallery = centres[gallery_ids] + 2 * rng.standard_normal((num_gallery, dim))

    return queries.astype(np.float32), gallery.astype(np.float32), query_ids, gallery_ids


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_near_ties_are_decided_exactly_for_any_block(monkeypatch, distance):
    queries, gallery, query_ids, gallery_ids = clustered(0)
    gallery[50:100] = gallery[100:150]
    # one ulp apart: a float32 product cannot tell them apart
    gallery[50:100, 0] = np.nextafter(gallery[50:100, 0], np.float32(9))
    gallery[200:230] = gallery[150:180]
    similarity = (
        oracle.cosine(queries, gallery)
        if distance == "cosine"
        else -oracle.squared_distance(queries, gallery)
    )
    want = oracle.evaluate(
        similarity, [np.flatnonzero(gallery_ids == x).tolist() for x in query_ids], 5
    )
    rows = torch.from_numpy(queries), torch.from_numpy(gallery)
    lists = [np.flatnonzero(gallery_ids == x) for x in query_ids]

    for tile, some in ((1 << 17, 256), (130, 7)):
        monkeypatch.setattr(count_nonmatches, "_TILE", tile)
        monkeypatch.setattr(count_nonmatches, "_MIN_QUERIES", some)

        compare(
            evaluate_retrieval(
                *rows, query_ids=query_ids, gallery_ids=gallery_ids, distance=distance
            ),
            want,
            5,
        )
        compare(evaluate_retrieval(*rows, relevant=lists, distance=distance), want, 5)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("ties", TIES)
def test_the_same_ranks_as_re_identification(distance, leave_one_out, ties):
    queries, gallery, query_ids, gallery_ids = clustered(4)
    gallery[50:100] = gallery[100:150]
    gallery[200:230] = np.nextafter(gallery[150:180], np.float32(9))
    queries[3] = gallery[7] = 0
    if leave_one_out:
        queries, query_ids = gallery, gallery_ids

    want = evaluate_reid(
        queries,
        None if leave_one_out else gallery,
        query_ids=query_ids,
        gallery_ids=None if leave_one_out else gallery_ids,
        distance=distance,
        ties=ties,
    )
    relevant = [np.flatnonzero(gallery_ids == x) for x in query_ids]

    for kinds in (
        {"relevant": relevant},
        {"query_ids": query_ids, "gallery_ids": None if leave_one_out else gallery_ids},
    ):
        rows = torch.from_numpy(queries), None if leave_one_out else gallery
        got = evaluate_retrieval(*rows, **kinds, distance=distance, ties=ties)
        np.testing.assert_array_equal(got.ranks[got.begin[:-1]], want.first_rank)
        np.testing.assert_array_equal(got.of_each("average_precision"), want.average_precision)
        assert got.mean_ap == want.mean_ap


def test_gallery_from_a_file(tmp_path, monkeypatch):
    queries, gallery, query_ids, gallery_ids = clustered(5)
    np.save(tmp_path / "rows.npy", gallery)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    want = evaluate_retrieval(
        queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids
    ).ranks.tolist()
    monkeypatch.setattr(count_nonmatches, "_TILE", 200)

    assert (
        evaluate_retrieval(
            queries, mapped, query_ids=query_ids, gallery_ids=gallery_ids
        ).ranks.tolist()
        == want
    )

    lists = [np.flatnonzero(gallery_ids == x) for x in query_ids]
    assert evaluate_retrieval(queries, mapped, relevant=lists).ranks.tolist() == want


def test_order_of_the_gallery_changes_nothing():
    queries, gallery, query_ids, gallery_ids = clustered(1)
    order = np.random.default_rng(0).permutation(len(gallery))
    first = evaluate_retrieval(
        torch.from_numpy(queries),
        torch.from_numpy(gallery),
        query_ids=query_ids,
        gallery_ids=gallery_ids,
    )
    second = evaluate_retrieval(
        torch.from_numpy(queries),
        torch.from_numpy(gallery[order]),
        query_ids=query_ids,
        gallery_ids=gallery_ids[order],
    )

    assert first.ranks.tolist() == second.ranks.tolist()

    third = evaluate_retrieval(
        torch.from_numpy(queries[::-1].copy()),
        torch.from_numpy(gallery),
        query_ids=query_ids[::-1],
        gallery_ids=gallery_ids,
    )

    assert third.mean_ap == first.mean_ap  # to the last bit


def test_a_collapsed_model_scores_near_zero():
    rows = torch.full((300, 8), 0.1)
    ids = torch.arange(300) // 3
    collapsed = evaluate_retrieval(rows, query_ids=ids)

    assert collapsed.hit_rate(10) == 0
    assert collapsed.mean_ap < 0.01
    assert evaluate_retrieval(rows, query_ids=ids, ties="optimistic").mean_ap == 1

    by_chance = evaluate_retrieval(rows, query_ids=ids, ties="mean")
    # two right ones among 299: on average at a third and at two thirds
    assert set(by_chance.ranks.tolist()) == {100, 200}
    assert by_chance.per_query()["first_rank"].tolist() == [100] * 300


def test_mean_ranks_by_hand():
    # a relevant and an irrelevant row tied at the top, then a relevant one tied with two others
    similarity = torch.tensor([[3.0, 3.0, 1.0, 1.0, 1.0]])
    result = evaluate_retrieval_similarity(similarity, relevant=[[1, 3]], ties="mean")

    assert result.ranks.tolist() == [1.5, 4.0]
    assert result.mean_ap == (1 / 1.5 + 2 / 4) / 2
    assert (result.hit_rate(1), result.hit_rate(2), result.recall(3), result.r_precision) == (
        0.0,
        1.0,
        0.5,
        0.5,
    )
    assert result.ndcg(1) == 0.0
    assert result.per_query()["first_rank"].tolist() == [1.5]
    assert json.loads(result.to_json())["mean_reciprocal_rank"] == 1 / 1.5

    distinct = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0]])
    rules = [evaluate_retrieval_similarity(distinct, relevant=[[1, 3]], ties=ties) for ties in TIES]

    assert [result.ranks.tolist() for result in rules] == [[2, 4]] * 3


def test_several_right_answers_in_both_directions():
    texts = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.6]])
    images = torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    of_text = [0, 0, 1, 1]  # image that each caption describes
    to_image = evaluate_retrieval(texts, images, query_ids=of_text, gallery_ids=[0, 1])
    to_text = evaluate_retrieval(images, texts, query_ids=[0, 1], gallery_ids=of_text)

    # with one right image each, both measures agree
    assert to_image.recall(1) == to_image.hit_rate(1) == 1.0
    assert (to_text.hit_rate(1), to_text.recall(1), to_text.recall(2)) == (1.0, 0.5, 1.0)
    assert to_text.r_precision == 1.0


def test_kinds_of_ids_and_relevance():
    queries, gallery, query_ids, gallery_ids = clustered(2, 20, 60, 8)
    rows = torch.from_numpy(queries), torch.from_numpy(gallery)
    want = evaluate_retrieval(*rows, query_ids=query_ids, gallery_ids=gallery_ids).mean_ap

    assert (
        evaluate_retrieval(
            *rows, query_ids=torch.from_numpy(query_ids), gallery_ids=gallery_ids.tolist()
        ).mean_ap
        == want
    )

    named = [[f"id {i}" for i in ids] for ids in (query_ids, gallery_ids)]
    assert evaluate_retrieval(*rows, query_ids=named[0], gallery_ids=named[1]).mean_ap == want

    lists = [torch.from_numpy(np.flatnonzero(gallery_ids == x)) for x in query_ids]
    assert evaluate_retrieval(*rows, relevant=lists).mean_ap == want

    half = evaluate_retrieval(
        rows[0].half(), rows[1].half(), query_ids=query_ids, gallery_ids=gallery_ids
    )
    assert half.mean_ap == pytest.approx(want, abs=1e-2)


def test_inputs_may_require_grad_and_autocast_has_no_effect():
    queries, gallery, query_ids, gallery_ids = clustered(3)
    rows = torch.from_numpy(queries).requires_grad_(), torch.from_numpy(gallery)
    want = evaluate_retrieval(*rows, query_ids=query_ids, gallery_ids=gallery_ids).ranks.tolist()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (
            evaluate_retrieval(*rows, query_ids=query_ids, gallery_ids=gallery_ids).ranks.tolist()
            == want
        )


ROWS = torch.eye(3)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_embeddings": ROWS[0]}, r"query_embeddings as a floating-point matrix \(N, D\)"),
        ({"gallery_embeddings": ROWS[:0]}, "gallery_embeddings has no rows"),
        ({"gallery_embeddings": ROWS[:, :2]}, "of one width"),
        (
            {"gallery_embeddings": ROWS / 0},
            "finite gallery_embeddings, got NaN or infinity in 3 of 3",
        ),
        ({"query_ids": None}, "query_ids is missing; pass ids of both sides, or relevant"),
        ({"query_ids": None, "gallery_ids": None}, "query_ids is missing"),
        (
            {"relevant": [[0], [1], [2]]},
            "ids and relevant exclude each other",
        ),
        ({"gallery_ids": None}, "gallery_ids is missing; pass the id of each gallery row"),
        ({"gallery_embeddings": None}, "gallery_ids given without gallery_embeddings"),
        ({"query_ids": [0, 1]}, r"query_ids as 3 ids, one for each row, got shape \(2,\)"),
        (
            {"query_ids": ["a", "b", "c"]},
            "query_ids are strings and gallery_ids are integers, so they never match",
        ),
        (
            {"query_ids": [7, 8, 9]},
            "none of the 3 queries has a relevant row among the 3 of the gallery",
        ),
        (
            {"gallery_embeddings": None, "gallery_ids": None},
            "none of the 3 queries has a relevant row",
        ),
        ({"distance": "dot"}, "distance to be one of cosine, euclidean"),
        ({"ties": "random"}, "ties to be one of pessimistic, optimistic, mean"),
        (
            {"query_embeddings": ROWS.to_sparse()},
            "query_embeddings as a dense tensor, got sparse_coo",
        ),
        ({"query_ids": [[0], [1, 2], [2]]}, "query_ids as an array, got rows of unequal length"),
        (
            {"query_embeddings": None},
            "query_embeddings is None; pass a matrix or a re-ranker to evaluate_retrieval_sim",
        ),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "query_embeddings": ROWS,
        "gallery_embeddings": ROWS,
        "query_ids": [0, 1, 2],
        "gallery_ids": [0, 1, 2],
        **change,
    }

    with pytest.raises(ValueError, match=f"evaluate_retrieval: .*{message}"):
        evaluate_retrieval(**arguments)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        ([[1.0]], "similarity as a matrix or a re-ranker, got list"),
        (ROWS.to_sparse(), "similarity as a dense tensor"),
        (ROWS.int(), r"a floating-point matrix \(Q, G\), got torch.int32 of shape \(3, 3\)"),
        (ROWS[0], r"a floating-point matrix \(Q, G\), got torch.float32 of shape \(3,\)"),
        (ROWS * torch.nan, "similarity holds NaN in 9 places"),
    ],
)
def test_bad_similarity(similarity, message):
    with pytest.raises(ValueError, match=f"evaluate_retrieval_similarity: .*{message}"):
        evaluate_retrieval_similarity(similarity, query_ids=[0, 1, 2], gallery_ids=[0, 1, 2])


def test_re_ranker_equals_its_matrix_block_by_block(monkeypatch):
    from clipreid_kit import KReciprocalReranker
    from clipreid_kit.metrics.reranking import k_reciprocal

    rng = np.random.default_rng(0)
    ids = np.arange(60) % 6
    rows = torch.from_numpy(
        rng.standard_normal((6, 8))[ids] + 1.5 * rng.standard_normal((60, 8))
    ).float()
    reranker = KReciprocalReranker(rows[:10], rows[10:], k1=6, k2=3)
    sides = {
        "query_ids": ids[:10] + 2,
        "gallery_ids": ids[10:],
    }  # two of them are not in the gallery
    monkeypatch.setattr(k_reciprocal, "_BLOCK", 200)
    whole = torch.cat([block for _, block in reranker])
    want = evaluate_retrieval_similarity(-whole, **sides)
    got = evaluate_retrieval_similarity(reranker, **sides)

    np.testing.assert_array_equal(got.ranks, want.ranks)
    np.testing.assert_array_equal(got.begin, want.begin)
    assert got.num_valid_queries < got.num_queries
    assert got.query_ids.tolist() == want.query_ids.tolist() == (ids[:10] + 2).tolist()
    assert (
        evaluate_retrieval_similarity(reranker, relevant=[[i] for i in range(10)]).query_ids is None
    )


@pytest.mark.unhooked
def test_re_ranker_bad_input():
    from clipreid_kit import KReciprocalReranker

    reranker = KReciprocalReranker(torch.eye(3), torch.eye(3))

    with pytest.raises(ValueError, match="gallery_ids is missing"):
        evaluate_retrieval_similarity(reranker, query_ids=[0, 1, 2])
    with pytest.raises(ValueError, match="ties to be one of"):
        evaluate_retrieval_similarity(reranker, relevant=[[0]] * 3, ties="none")
    with pytest.raises(ValueError, match=r"query_ids as 3 ids|of shape"):
        evaluate_retrieval_similarity(reranker, query_ids=[0], gallery_ids=[0, 1, 2])


def test_distances_are_ranked_from_the_smallest():
    distances = np.linspace(2, 3, 12 * 24).reshape(12, 24)
    distances[np.arange(12), np.arange(12)] = 1.0
    relevant = [[row] for row in range(12)]

    result = evaluate_retrieval_similarity(distances, relevant=relevant, nearer="smaller")
    assert result.hit_rate(1) == 1

    with pytest.warns(
        UserWarning, match="evaluate_retrieval_similarity: on average a match has 100"
    ):
        reversed_result = evaluate_retrieval_similarity(distances, relevant=relevant)
    assert reversed_result.hit_rate(1) == 0


def test_the_result_keeps_its_own_ids():
    ids = np.array([0, 0, 1, 1])
    result = evaluate_retrieval(torch.randn(4, 3), query_ids=ids)
    ids[:] = 9
    assert result.query_ids.tolist() == [0, 0, 1, 1]
