import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import reid as oracle

from clipreid_kit.metrics import KReciprocalReranker, evaluate_reid, evaluate_reid_similarity
from clipreid_kit.metrics._engine import count_nonmatches, query_block


@st.composite
def small_sets(draw):
    """Small sets with ties, copies, distractors, shared cameras and queries without a match."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    num_queries, num_gallery, dim = (draw(st.integers(1, n)) for n in (6, 25, 6))
    levels = draw(st.sampled_from([2, 3, 1000]))  # few levels: many exact ties
    queries = rng.integers(-levels, levels + 1, (num_queries, dim)).astype(np.float32)
    gallery = rng.integers(-levels, levels + 1, (num_gallery, dim)).astype(np.float32)

    return (
        queries,
        gallery,
        rng.integers(0, 4, num_queries),
        rng.integers(0, 6, num_gallery),
        rng.integers(0, 2, num_queries),
        rng.integers(0, 3, num_gallery),
    )


def compare(result, want):
    """Compare a result with the rows of the oracle: each query, and the means."""
    assert result.num_queries == len(want)
    for i, row in enumerate(want):
        compare_query(result, i, row)

    valid = [row for row in want if row is not None]
    mean_ap, mean_inp, _ = np.mean(valid, axis=0)
    assert result.num_valid_queries == len(valid)
    assert result.mean_ap == pytest.approx(mean_ap, abs=1e-12)
    assert result.mean_inp == pytest.approx(mean_inp, abs=1e-12)

    for k in (1, 2, 5, 1000):
        assert result.rank(k) == pytest.approx(np.mean([row[2] <= k for row in valid]))
    assert result.cmc.tolist() == [result.rank(k) for k in range(1, len(result.cmc) + 1)]


def compare_query(result, i, row):
    if row is None:
        assert result.num_positives[i] == 0
        assert np.isnan(result.average_precision[i])
        assert np.isnan(result.inverse_negative_penalty[i])
        assert result.first_rank[i] == 0
    else:
        assert result.average_precision[i] == pytest.approx(row[0], abs=1e-12)
        assert result.inverse_negative_penalty[i] == pytest.approx(row[1], abs=1e-12)
        # mean ranks of ties are rounded differently by the oracle
        first_rank = row[2] if isinstance(row[2], int) else pytest.approx(row[2], abs=1e-12)
        assert result.first_rank[i] == first_rank


@given(
    small_sets(),
    st.sampled_from(["cosine", "euclidean"]),
    st.sampled_from(["pessimistic", "optimistic", "mean"]),
    st.sampled_from(["nothing", "cameras", "exclude", "both"]),
    st.booleans(),
)
def test_equals_brute_force(small_set, distance, ties, rules, with_junk):
    queries, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras = small_set
    if ties == "mean":
        gallery = gallery[:7]  # the oracle goes through all orders of equals
        gallery_ids, gallery_cameras = gallery_ids[:7], gallery_cameras[:7]

    cameras = query_cameras, gallery_cameras
    sessions = (query_cameras + query_ids) % 2, (gallery_cameras + gallery_ids) % 3
    options, columns = {}, []
    if rules in ("cameras", "both"):
        options |= {"query_cameras": query_cameras, "gallery_cameras": gallery_cameras}
        columns.append(cameras)
    if rules in ("exclude", "both"):
        options["exclude"] = [sessions]
        columns.append(sessions)

    junk = (1, 5) if with_junk else ()
    want = oracle.evaluate(
        oracle.exact(queries, gallery, distance), query_ids, gallery_ids, columns, junk, ties
    )

    def run():
        return evaluate_reid(
            queries,
            gallery,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            junk_ids=junk,
            distance=distance,
            ties=ties,
            **options,
        )

    if all(row is None for row in want):
        with pytest.raises(ValueError, match="no query has a match"):
            run()
    else:
        result = run()
        compare(result, want)
        assert result.num_gallery == sum(g not in junk for g in gallery_ids)


@given(small_sets(), st.sampled_from(["cosine", "euclidean"]), st.booleans())
def test_leave_one_out_equals_brute_force(small_set, distance, with_cameras):
    _, rows, _, ids, _, cameras = small_set
    own = np.arange(len(rows))
    columns = [(own, own)] + ([(cameras, cameras)] if with_cameras else [])
    want = oracle.evaluate(oracle.exact(rows, rows, distance), ids, ids, columns)
    options = {"query_cameras": cameras} if with_cameras else {}

    if all(row is None for row in want):
        with pytest.raises(ValueError, match="no query has a match"):
            evaluate_reid(rows, query_ids=ids, distance=distance, **options)
    else:
        compare(evaluate_reid(rows, query_ids=ids, distance=distance, **options), want)
        by_column = evaluate_reid(
            rows, rows, query_ids=ids, gallery_ids=ids, exclude=columns, distance=distance
        )
        compare(by_column, want)


@given(small_sets(), st.integers(0, 100), st.sampled_from(["cosine", "euclidean"]))
def test_order_of_the_gallery_and_power_of_two_scale_change_no_bit(small_set, seed, distance):
    queries, gallery, query_ids, gallery_ids = small_set[:4]
    query_ids[0] = gallery_ids[0]
    order = np.random.default_rng(seed).permutation(len(gallery))

    def run(order, scale):
        return evaluate_reid(
            queries * scale,
            gallery[order] * scale,
            query_ids=query_ids,
            gallery_ids=gallery_ids[order],
            distance=distance,
        )

    plain, moved = run(np.arange(len(gallery)), 1), run(order, 0.25)
    assert plain.mean_ap == moved.mean_ap
    assert plain.mean_inp == moved.mean_inp
    np.testing.assert_array_equal(plain.average_precision, moved.average_precision)
    np.testing.assert_array_equal(plain.cmc, moved.cmc)


def clustered(num_queries, num_gallery, identities, dim, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    centres = (
        rng.standard_normal((identities, dim))
        + 0.5 * rng.standard_normal((8, dim))[rng.integers(0, 8, identities)]
    )
    query_ids, gallery_ids = (
        rng.integers(0, identities, num_queries),
        rng.integers(0, identities, num_gallery),
    )
    queries = centres[query_ids] + noise * rng.standard_normal((num_queries, dim))
    gallery = centres[gallery_ids] + noise * rng.standard_normal((num_gallery, dim))

    return queries.astype(np.float32), gallery.astype(np.float32), query_ids, gallery_ids


def every_way(monkeypatch, run):
    """Yield results for other blocks, tiles, slices, threads, passes and precisions."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    ways = {
        "threads": {
            (count_nonmatches, "_WORTH_THREADS"): 0,
            (count_nonmatches, "default_threads"): lambda: 3,
            (count_nonmatches, "_MIN_QUERIES"): 20,
            (count_nonmatches, "_MIN_QUERIES_EACH"): 1,
        },
        "threads, bfloat16, tiles": {
            (count_nonmatches, "bfloat16_allowance"): lambda *_: True,
            (count_nonmatches, "_WORTH_THREADS"): 0,
            (count_nonmatches, "default_threads"): lambda: 2,
            (count_nonmatches, "_MIN_QUERIES_EACH"): 7,
            (count_nonmatches, "_TILE"): 300,
        },
        "threads of torch": {},
        "one query at a time": {
            (count_nonmatches, "_MIN_QUERIES"): 1,
            (count_nonmatches, "_BLOCK"): 1,
        },
        "tiles": {
            (count_nonmatches, "_TILE"): 97,
            (count_nonmatches, "_MIN_QUERIES"): 13,
            (count_nonmatches, "_BLOCK"): 13,
        },
        "slices": {(query_block, "_SLICE"): 1},
        "all exact": {(query_block, "_DENSE_DIVISOR"): 10**9, (query_block, "_EXACT_TILE"): 50},
        "none exact": {(query_block, "_DENSE_DIVISOR"): 0.1},
        "float64": {
            (query_block, "_FEW_MATCHES"): 0,
            (query_block, "_MANY_DIVISOR"): 10**9,
            (count_nonmatches, "_BLOCK"): 9 * 700,
        },
        "bfloat16": {(count_nonmatches, "bfloat16_allowance"): lambda *_: True},
        "bfloat16, tiles": {
            (count_nonmatches, "bfloat16_allowance"): lambda *_: True,
            (count_nonmatches, "_TILE"): 300,
            (query_block, "_DENSE_DIVISOR"): 1,
        },
        "medium": {},
    }

    try:
        for name, changes in ways.items():
            with monkeypatch.context() as patch:
                for (module, attribute), value in changes.items():
                    patch.setattr(module, attribute, value)
                torch.set_num_threads(2 if name == "threads of torch" else 1)
                torch.set_float32_matmul_precision("medium" if name == "medium" else "highest")
                yield name, run()
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def assert_same_bits(got, want, name=""):
    np.testing.assert_array_equal(got.average_precision, want.average_precision, name)
    np.testing.assert_array_equal(got.inverse_negative_penalty, want.inverse_negative_penalty, name)
    np.testing.assert_array_equal(got.first_rank, want.first_rank, name)
    np.testing.assert_array_equal(got.num_positives, want.num_positives, name)
    assert (got.mean_ap, got.mean_inp, got.num_gallery) == (
        want.mean_ap,
        want.mean_inp,
        want.num_gallery,
    )


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("scale", [1.0, 3.7])
def test_same_bits_any_way(monkeypatch, distance, scale):
    queries, gallery, query_ids, gallery_ids = clustered(60, 700, 30, 64, 0, noise=2.0)
    gallery[100:200] = gallery[300:400] * np.float32(1 + 2**-20)  # near ties beyond float32
    gallery[200:250] = gallery[400:450]  # exact ties
    # an ulp apart
    factors = 1 + 2.0**-23 * np.arange(20)[:, None]
    gallery[:20] = np.tile(gallery[20], (20, 1)) * factors
    queries[3] = 0
    if scale == 1.0:  # normalised, as is usual
        queries, gallery = (
            x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
            for x in (queries, gallery)
        )

    queries, gallery = (np.float32(scale) * x.astype(np.float32) for x in (queries, gallery))

    def run():
        return evaluate_reid(
            queries,
            gallery,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            distance=distance,
            junk_ids=[4],
            ties="mean",
        )

    want = run()
    similarity = oracle.exact(queries, gallery, distance)

    for ties in ("pessimistic", "optimistic"):
        by_oracle = oracle.evaluate(similarity, query_ids, gallery_ids, junk=[4], ties=ties)
        # for the cosine, ties differ in the last bit of the oracle's quotient
        if distance == "euclidean":
            result = evaluate_reid(
                queries,
                gallery,
                query_ids=query_ids,
                gallery_ids=gallery_ids,
                distance=distance,
                junk_ids=[4],
                ties=ties,
            )

            compare(result, by_oracle)

    for name, got in every_way(monkeypatch, run):
        assert_same_bits(got, want, name)


def near_ties(kind):
    """Make galleries in which float32 can decide little or nothing."""
    rng = np.random.default_rng(5)
    queries, ids = rng.standard_normal((40, 64)).astype(np.float32), rng.integers(0, 8, 600)

    if kind == "all equal":
        gallery = np.tile(queries[0], (600, 1))
    elif kind == "an ulp apart":
        gallery = np.tile(queries[0], (600, 1))
        gallery[np.arange(600), rng.integers(0, 64, 600)] *= np.float32(1 + 2**-23)
    elif kind == "codes":  # distinct rows, equal similarities
        queries, gallery = (
            np.sign(rng.standard_normal((n, 64))).astype(np.float32) for n in (40, 600)
        )
    else:  # permutations of one row, and queries that are nearly constant
        gallery = np.stack([rng.permutation(queries[0]) for _ in range(600)])
        queries = np.ones_like(queries) + 1e-7 * queries

    return queries, gallery, ids[:40], ids


@pytest.mark.parametrize("kind", ["all equal", "an ulp apart", "codes", "permutations"])
def test_same_bits_where_float32_cannot_decide(monkeypatch, kind):
    queries, gallery, query_ids, gallery_ids = near_ties(kind)

    def run():
        return evaluate_reid(
            queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids, ties="mean"
        )

    want = run()
    for name, got in every_way(monkeypatch, run):
        assert_same_bits(got, want, name)

    order = np.random.default_rng(0).permutation(600)
    moved = evaluate_reid(
        queries, gallery[order], query_ids=query_ids, gallery_ids=gallery_ids[order], ties="mean"
    )

    assert_same_bits(moved, want)
    if kind in ("all equal", "codes"):  # whole numbers: the oracle is exact
        for ties in ("pessimistic", "optimistic"):
            result = evaluate_reid(
                queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids, ties=ties
            )
            similarity = oracle.exact(queries, gallery, "cosine")
            compare(result, oracle.evaluate(similarity, query_ids, gallery_ids, ties=ties))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["clusters", "all equal", "an ulp apart", "codes", "permutations"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_gpu_returns_the_bits_of_the_cpu(kind, dtype, distance):
    queries, gallery, query_ids, gallery_ids = (
        clustered(60, 700, 30, 64, 0, noise=2.0) if kind == "clusters" else near_ties(kind)
    )
    sides = torch.from_numpy(queries).to(dtype), torch.from_numpy(gallery).to(dtype)
    options = {
        "query_ids": query_ids,
        "gallery_ids": gallery_ids,
        "distance": distance,
        "ties": "mean",
        "junk_ids": [4],
    }
    want = evaluate_reid(*sides, **options)
    precision = torch.get_float32_matmul_precision()

    try:
        for rough in ("highest", "high"):  # TF32
            torch.set_float32_matmul_precision(rough)
            assert_same_bits(evaluate_reid(*(x.cuda() for x in sides), **options), want, rough)
            assert_same_bits(
                evaluate_reid(sides[0].cuda(), sides[1].double().numpy(), **options), want, rough
            )
    finally:
        torch.set_float32_matmul_precision(precision)


def test_collapsed_model_by_formula():
    # all equal: the k-th of n matches among N images is expected at rank k (N + 1) / (n + 1)
    rows = np.ones((200, 16), dtype=np.float32)
    ids = np.repeat(np.arange(50), 4)
    result = evaluate_reid(rows[:50], rows, query_ids=np.arange(50), gallery_ids=ids, ties="mean")

    np.testing.assert_allclose(result.average_precision, 5 / 201, rtol=1e-14)
    np.testing.assert_allclose(result.inverse_negative_penalty, 5 / 201, rtol=1e-14)
    np.testing.assert_allclose(result.first_rank, 201 / 5)
    assert result.rank(40) == 0
    assert result.rank(41) == 1
    assert result.cmc[39:42].tolist() == [0, 1, 1]


def test_rows_one_float32_ulp_apart_differ():
    # 512 wide: the float32 product cannot see the difference that decides every rank here
    rng = np.random.default_rng(3)
    base = rng.standard_normal(512).astype(np.float32)
    gallery = np.tile(base, (64, 1))

    for i in range(64):  # row i is turned away from the query by i ulps of one coordinate
        for _ in range(i):
            gallery[i, 7] = np.nextafter(gallery[i, 7], np.float32(np.inf))

    ids = np.array([1 if i % 2 else 0 for i in range(64)])
    query = base[None].copy()
    want = oracle.evaluate(oracle.exact(query, gallery, "euclidean"), [1], ids)
    got = evaluate_reid(query, gallery, query_ids=[1], gallery_ids=ids, distance="euclidean")

    compare(got, want)
    assert got.first_rank[0] == 2
    np.testing.assert_allclose(got.mean_ap, 0.5)  # every other one, from rank 2 on


def test_collapsed_model_scores_near_zero_and_optimistic_would_not():
    rows = np.ones((200, 16), dtype=np.float32)
    ids = np.repeat(np.arange(50), 4)
    collapsed = evaluate_reid(rows[:50], rows, query_ids=np.arange(50), gallery_ids=ids)

    assert collapsed.rank(1) == 0
    assert collapsed.mean_ap < 0.02

    best = evaluate_reid(
        rows[:50], rows, query_ids=np.arange(50), gallery_ids=ids, ties="optimistic"
    )

    assert best.mean_ap == 1


def test_zero_rows_are_ties_not_nan():
    gallery = np.zeros((4, 3), dtype=np.float32)
    result = evaluate_reid(gallery[:1], gallery, query_ids=[1], gallery_ids=[1, 2, 3, 4])
    assert result.first_rank.tolist() == [4]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_precisions_and_kinds_of_input(dtype):
    queries, gallery, query_ids, gallery_ids = clustered(20, 60, 8, 16, 1)
    queries, gallery = queries.astype(dtype), gallery.astype(dtype)
    want = oracle.evaluate(oracle.exact(queries, gallery, "cosine"), query_ids, gallery_ids)
    got = evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids)

    compare(got, want)

    as_tensors = evaluate_reid(
        torch.from_numpy(queries),
        torch.from_numpy(gallery),
        query_ids=torch.from_numpy(query_ids),
        gallery_ids=torch.from_numpy(gallery_ids),
    )

    assert as_tensors.mean_ap == got.mean_ap

    named = evaluate_reid(
        queries,
        gallery,
        query_ids=[f"p{i}" for i in query_ids],
        gallery_ids=np.array([f"p{i}" for i in gallery_ids]),
    )

    assert named.mean_ap == got.mean_ap

    read_only = gallery.copy()
    read_only.flags.writeable = False

    assert (
        evaluate_reid(queries, read_only, query_ids=query_ids, gallery_ids=gallery_ids).mean_ap
        == got.mean_ap
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_extreme_norms(scale, distance):
    queries, gallery, query_ids, gallery_ids = clustered(20, 60, 8, 16, 2)
    factor = np.float32(2.0 ** np.round(np.log2(scale)))
    want = evaluate_reid(
        queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids, distance=distance
    )
    got = evaluate_reid(
        queries * factor,
        gallery * factor,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        distance=distance,
    )

    assert got.mean_ap == want.mean_ap


def test_one_row_of_another_scale_does_not_matter_to_cosine():
    queries, gallery, query_ids, gallery_ids = clustered(20, 60, 8, 16, 2)
    want = evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids)
    gallery[3] *= np.float32(2.0**90)
    gallery[4] *= np.float32(2.0**-90)

    assert (
        evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids).mean_ap
        == want.mean_ap
    )


def test_camera_rule_by_hand():
    gallery = np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]], dtype=np.float32)
    options = {"query_ids": [5], "gallery_ids": [5, 6, 5, 7]}
    plain = evaluate_reid(gallery[:1], gallery, **options)

    assert plain.rank(1) == 1

    ruled = evaluate_reid(
        gallery[:1], gallery, **options, query_cameras=[0], gallery_cameras=[0, 0, 1, 1]
    )

    assert ruled.rank(1) == 0  # the image of the same camera is left out, so a wrong one is first
    assert ruled.mean_ap == 0.5
    assert ruled.num_positives.tolist() == [1]


def test_max_rank_beyond_the_gallery():
    result = evaluate_reid(np.eye(2), np.eye(2), query_ids=[0, 1], gallery_ids=[0, 1], max_rank=50)
    assert result.cmc.tolist() == [1, 1]
    assert result.rank(50) == 1


ROWS = np.eye(3, dtype=np.float32)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"query_embeddings": ROWS[0]},
            r"query_embeddings as a floating-point matrix \(N, D\), got shape \(3,\)",
        ),
        (
            {"query_embeddings": ROWS.astype(object)},
            "query_embeddings as numbers of at most 64 bits, got object",
        ),
        (
            {"query_embeddings": ROWS.astype(np.float64) * 1e200},
            r"1e140, got others in 3 rows \(first: \[0, 1, 2\]\). Divide all",
        ),
        (
            {"query_embeddings": ROWS.astype(int)},
            "query_embeddings as a floating-point matrix.*int64",
        ),
        (
            {"query_embeddings": ROWS[:0], "query_ids": []},
            "query_embeddings has no rows",
        ),
        (
            {"gallery_embeddings": ROWS[:0], "gallery_ids": []},
            "gallery_embeddings has no rows",
        ),
        ({"gallery_embeddings": ROWS[:, :2]}, r"of one width, got \(3, 3\) and \(3, 2\)"),
        (
            {"gallery_embeddings": np.array([[1, 0, 0], [np.nan, 0, 0], [0, np.inf, 0]])},
            r"2 of 3 rows \(first: \[1, 2\]\)",
        ),
        ({"query_ids": [0, 1]}, r"query_ids as 3 ids, one for each row, got shape \(2,\)"),
        (
            {"query_ids": ["0", "1", "2"]},
            "query_ids are strings and gallery_ids are integers, so they never match; convert",
        ),
        ({"query_ids": [0.0, 1.0, 2.0]}, "query_ids as integers or strings, got float64"),
        ({"query_ids": ["a", 1, 2]}, "query_ids mixes integers and strings"),
        (
            {"query_ids": [7, 8, 9]},
            "none of the 3 query identities is among the 3 of the gallery. Check how the ids",
        ),
        (
            {"query_cameras": [0, 0, 0]},
            "cameras of both sides or of neither, got query_cameras only",
        ),
        ({"gallery_cameras": [0, 0, 0]}, "got gallery_cameras only"),
        (
            {"query_cameras": [1, 1, 1], "gallery_cameras": [1, 1, 1]},
            r"3 of 3 queries have their identity in the gallery, but the camera rule \(1 different "
            r"cameras in all\) leaves every match out. If the cameras are unknown",
        ),
        ({"distance": "manhattan"}, "distance to be one of cosine, euclidean"),
        ({"ties": "random"}, "ties to be one of pessimistic, optimistic, mean"),
        (
            {"gallery_ids": None},
            "gallery_embeddings given without gallery_ids; omit both",
        ),
        (
            {"gallery_embeddings": None},
            "gallery_ids given without gallery_embeddings; omit both",
        ),
        (
            {"gallery_embeddings": None, "gallery_ids": None},
            "each of the 3 queries is the only one of its identity",
        ),
        ({"query_embeddings": None}, "query_embeddings is None; pass a matrix"),
        ({"similarity": ROWS}, "pass a matrix or a re-ranker to evaluate_reid_similarity"),
        (
            {"exclude": [([0, 1], [0, 1, 2])]},
            r"query_values of exclude as 3 ids, one for each row, got shape \(2,\)",
        ),
        (
            {"exclude": [([0, 1, 2], None)]},
            "values of exclude of both sides or of neither, got query_",
        ),
        (
            {"exclude": [([1, 1, 1], [1, 1, 1])]},
            "but the rules of exclude leaves every match out",
        ),
        ({"junk_ids": ["-1"]}, "junk_ids are strings and gallery_ids are integers"),
        (
            {"junk_ids": [0, 1, 2]},
            "among the 3 of the gallery, of which 3 rows are junk",
        ),
        ({"max_rank": 0}, "max_rank as a whole number >= 1, got 0"),
        (
            {"query_embeddings": ROWS.astype(complex)},
            "query_embeddings as numbers of at most 64 bits, got complex128",
        ),
        (
            {"query_embeddings": [[1.0, 0.0], [1.0]]},
            "query_embeddings as an array, got rows of unequal length",
        ),
        (
            {"gallery_embeddings": np.ma.masked_array(ROWS, mask=ROWS > 0)},
            "gallery_embeddings without a mask, got 3 masked values",
        ),
        (
            {"gallery_embeddings": torch.eye(3).to_sparse()},
            "gallery_embeddings as a dense tensor, got sparse_coo",
        ),
        (
            {"query_embeddings": torch.eye(3, device="meta")},
            "query_embeddings as a dense tensor, got a meta tensor",
        ),
        ({"query_ids": torch.tensor([0, 1, 2]).to_sparse()}, "query_ids as a dense tensor"),
        ({"query_ids": [[0], [1, 2], [2]]}, "query_ids as an array, got rows of unequal length"),
        (
            {"query_ids": np.ma.masked_array([0, 1, 2], mask=[0, 1, 0])},
            "query_ids without a mask, got 1 masked values",
        ),
        ({"query_ids": 1}, r"query_ids as 3 ids, one for each row, got shape \(\)"),
        (
            {"query_cameras": [1, 2, 3], "gallery_cameras": ["1", "2", "3"]},
            "query_cameras are integers and gallery_cameras are strings",
        ),
        ({"junk_ids": -1}, "junk_ids as a list of ids, got -1"),
        ({"junk_ids": "-1"}, "junk_ids as a list of ids, got '-1'"),
        ({"junk_ids": None}, "junk_ids as a list of ids, got None"),
        ({"exclude": ([0, 1, 2], [0, 1, 2])}, "exclude is a list of pairs"),
        ({"exclude": None}, "exclude is a list of pairs"),
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

    with pytest.raises(ValueError, match=message):
        evaluate_reid(**arguments)


def test_unsigned_and_signed_ids_do_not_meet_in_floats():
    ids = np.array([2**62, 2**62 + 1, 5], dtype=np.uint64)
    result = evaluate_reid(ROWS, ROWS, query_ids=ids.astype(np.int64), gallery_ids=ids)
    assert result.num_positives.tolist() == [1, 1, 1]


def test_global_settings_of_the_program_change_nothing():
    queries, gallery, query_ids, gallery_ids = clustered(30, 200, 10, 32, 4, noise=2.0)

    def run():
        return evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids).mean_ap

    want = run()
    try:
        torch.set_default_dtype(torch.float64)
        assert run() == want
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch without this small_set"
)
def test_the_newer_precision_setting_changes_nothing():
    import subprocess
    import sys

    code = (
        "import torch, numpy as np; from clipreid_kit import evaluate_reid\n"
        "x = np.random.default_rng(0).standard_normal((40, 16)); ids = np.arange(40) % 8\n"
        "a = evaluate_reid(x[:8], x, query_ids=ids[:8], gallery_ids=ids).mean_ap\n"
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'\n"
        "assert a == evaluate_reid(x[:8], x, query_ids=ids[:8], gallery_ids=ids).mean_ap"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.returncode == 0, result.stderr


def test_only_pairs_within_a_window_are_scored_again(monkeypatch):
    from clipreid_kit._similarity import rescore

    scored = {}

    def watch(name):
        original = getattr(rescore, name).__call__

        def counted(self, query, rows):
            scored[name] = scored.get(name, 0) + len(rows)
            return original(self, query, rows)

        monkeypatch.setattr(getattr(rescore, name), "__call__", counted)

    for name in ("Float32Scorer", "Float64Scorer", "ExactScorer"):
        watch(name)

    queries, gallery, query_ids, gallery_ids = clustered(50, 4000, 100, 256, 5, noise=4.0)
    result = evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids)

    assert result.mean_ap < 0.6  # matches lie all over the gallery
    assert scored["Float64Scorer"] < 0.02 * len(queries) * len(gallery)
    assert "ExactScorer" not in scored

    monkeypatch.setattr(count_nonmatches, "bfloat16_allowance", lambda *_: True)
    monkeypatch.setattr(query_block, "_DENSE_DIVISOR", 1)

    assert (
        evaluate_reid(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids).mean_ap
        == result.mean_ap
    )
    assert 0 < scored["Float32Scorer"] <= len(queries) * len(gallery)  # each once at most


def test_reversed_and_big_endian_arrays():
    queries, gallery, query_ids, gallery_ids = clustered(10, 50, 5, 8, 6)
    want = evaluate_reid(
        queries[:, ::-1].copy(),
        gallery[:, ::-1].copy(),
        query_ids=query_ids,
        gallery_ids=gallery_ids,
    )
    got = evaluate_reid(
        queries[:, ::-1],
        gallery[:, ::-1].astype(">f4"),
        query_ids=query_ids,
        gallery_ids=gallery_ids,
    )

    assert got.mean_ap == want.mean_ap


def test_duplicate_rows_are_ties_by_the_stated_rule():
    # the query's own image is in the gallery twice: under its identity, and under a wrong one
    gallery = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    ids = {"query_ids": [1], "gallery_ids": [1, 2, 1]}
    found = {
        ties: evaluate_reid(gallery[:1], gallery, **ids, ties=ties)
        for ties in ("pessimistic", "optimistic", "mean")
    }

    assert [found[ties].first_rank[0] for ties in found] == [2, 1, 1.5]
    np.testing.assert_allclose(found["pessimistic"].mean_ap, (1 / 2 + 2 / 3) / 2)
    np.testing.assert_allclose(found["optimistic"].mean_ap, (1 + 2 / 3) / 2)
    np.testing.assert_allclose(found["mean"].mean_ap, (1 / 1.5 + 2 / 3) / 2)


def test_small_and_large_integers_do_not_overflow():
    largest = np.iinfo(np.int64).max
    for ids in ([-128, 0, 127], [np.iinfo(np.int64).min, 0, largest], [0, 1, 2]):
        for kind in ("int8", "int32", "int64"):
            if max(ids) <= np.iinfo(kind).max:
                narrow = np.array(ids, dtype=kind)
                result = evaluate_reid(ROWS, ROWS, query_ids=narrow, gallery_ids=np.array(ids))
                assert result.num_positives.tolist() == [1, 1, 1]
                assert result.mean_ap == 1

    beyond = np.array([2**64 - 1, 2**64 - 2, 5], dtype=np.uint64)
    assert evaluate_reid(ROWS, ROWS, query_ids=beyond, gallery_ids=beyond).mean_ap == 1

    small = np.arange(256, dtype=np.uint8)  # counts of matches may exceed the type of the ids
    rows = np.random.default_rng(0).standard_normal((600, 4))
    many = evaluate_reid(
        rows[:256],
        np.tile(rows[:1], (600, 1)),
        query_ids=small,
        gallery_ids=np.zeros(600, np.uint8),
    )

    assert many.num_positives[0] == 600
    assert many.mean_ap == 1


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            [2**70, 1, 2],
            "as integers or strings, got object. Use integers of at most 64 bits",
        ),
        ([None, 1, 2], "got object.*None and NaN are not ids"),
        ([np.nan, 1, 2], "got float64.*None and NaN are not ids"),
        ([True, False, True], "as integers or strings, got bool"),
        ([[0], [1], [2]], r"as 3 ids, one for each row, got shape \(3, 1\)"),
    ],
)
def test_values_that_are_not_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        evaluate_reid(ROWS, ROWS, query_ids=ids, gallery_ids=[0, 1, 2])


@pytest.mark.parametrize("reverse", [np.s_[::-1], np.s_[:, ::-1], np.s_[::-2], np.s_[-1:0:-1, ::2]])
@pytest.mark.parametrize("mode", ["r", "c", None])
def test_a_reversed_view_of_a_file_is_read(tmp_path, reverse, mode):
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    view = np.load(tmp_path / "rows.npy", mmap_mode=mode)[reverse]
    ids = np.arange(len(view)) % 5

    want = evaluate_reid(rows[reverse].copy(), query_ids=ids)
    got = evaluate_reid(
        view, view, query_ids=ids, gallery_ids=ids, exclude=[(ids * 0, ids * 0 + 1)]
    )
    assert evaluate_reid(view, query_ids=ids).to_dict() == want.to_dict()
    assert got.rank(1) == 1


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("ids", "error"),
    [
        (["a", "a\0"], "query_ids without a null character at the end, got 'a\\x00'"),
        (np.array(["a", "a\0"], dtype=object), "query_ids without a null character at the end"),
        ([True, 2], "query_ids mixes booleans and integers"),
        ([np.False_, 0], "query_ids mixes booleans and integers"),
        ([True, False], "query_ids as integers or strings, got bool"),
        ([1, "1"], "query_ids mixes integers and strings"),
    ],
)
def test_ids_that_would_be_taken_for_others_are_errors(ids, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        evaluate_reid(torch.eye(2), query_ids=ids)


def test_the_result_keeps_its_own_ids():
    ids = np.array([0, 0, 1, 1])
    result = evaluate_reid(torch.randn(4, 3), query_ids=ids)
    ids[:] = 9
    assert result.query_ids.tolist() == [0, 0, 1, 1]


def test_cameras_that_hardly_meet_are_a_warning():
    rows, ids = torch.eye(12), list(range(12))
    sides = {"query_ids": ids, "gallery_ids": ids, "query_cameras": [1] * 12}
    message = "evaluate_reid: 0 of 12 queries have a camera that occurs in the gallery, so the cam"

    with pytest.warns(UserWarning, match=message):
        result = evaluate_reid(rows, rows, **sides, gallery_cameras=[2**40] * 12)
    assert result.rank(1) == 1

    # Enough that one camera in ten is known.
    result = evaluate_reid(
        rows,
        rows,
        **sides | {"query_cameras": [1, 1] + [3] * 10},
        gallery_cameras=[2, 1] + [4] * 10,
    )
    assert result.num_valid_queries == 11


def near_and_far():
    """Distances of 20 queries of as many identities to two gallery rows of each."""
    rng = np.random.default_rng(0)
    distances = 1 + rng.random((20, 40))
    ids = {"query_ids": np.arange(20), "gallery_ids": np.arange(40) % 20}
    distances[np.arange(20), np.arange(20)] = rng.random(20)
    distances[np.arange(20), np.arange(20) + 20] = 0.5
    return distances, ids


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_distances_are_ranked_from_the_smallest(convert):
    distances, ids = near_and_far()
    want = evaluate_reid_similarity(-distances, **ids).to_dict()
    assert want["rank_1"] == 1

    distances = convert(distances)
    assert evaluate_reid_similarity(distances, nearer="smaller", **ids).to_dict() == want

    def block(queries, gallery):
        return distances[queries.long()[:, 0], :][:, gallery.long()[:, 0]]

    sides = torch.arange(20.0)[:, None], torch.arange(40.0)[:, None]
    got = evaluate_reid(*sides, similarity=block, nearer="smaller", **ids)
    assert got.to_dict() == want


def test_distances_given_as_similarities_are_a_warning():
    distances, ids = near_and_far()
    message = (
        r"evaluate_reid_similarity: on average a match has 100 % of the other gallery rows bef"
    )

    with pytest.warns(UserWarning, match=message):
        result = evaluate_reid_similarity(distances, **ids)
    assert result.rank(1) == 0

    with pytest.warns(UserWarning, match='A distance needs nearer="smaller"'):
        evaluate_reid_similarity(-distances, nearer="smaller", **ids)

    # A collapsed model is no reversed one, and a few queries say nothing.
    evaluate_reid_similarity(np.zeros_like(distances), **ids)
    few = {"query_ids": ids["query_ids"][:9], "gallery_ids": ids["gallery_ids"]}
    evaluate_reid_similarity(distances[:9], **few)


@pytest.mark.unhooked
def test_wrong_orders_are_errors():
    rows, ids = torch.eye(3), {"query_ids": [0, 1, 2], "gallery_ids": [0, 1, 2]}

    with pytest.raises(ValueError, match="nearer to be one of larger, smaller, got 'near'"):
        evaluate_reid_similarity(rows, nearer="near", **ids)
    with pytest.raises(ValueError, match="nearer belongs to similarity; pass distance instead"):
        evaluate_reid(rows, rows, nearer="smaller", **ids)

    reranker = KReciprocalReranker(rows, rows, k1=2, k2=1)
    with pytest.raises(ValueError, match="a re-ranker returns similarities; leave out nearer"):
        evaluate_reid_similarity(reranker, nearer="smaller", **ids)
