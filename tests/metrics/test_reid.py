import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import reid as oracle

from clipreid_kit.metrics import evaluate_reid


@st.composite
def settings(draw):
    """Small sets with ties, duplicates, distractors, shared cameras and queries without a match."""
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


def exact(queries, gallery, similarity):
    """The definition, written with numpy in the same fixed order (halving sums)."""

    def fold(x):
        while x.shape[-1] > 1:
            half = (x.shape[-1] + 1) // 2
            folded = x[..., :half].copy()
            folded[..., : x.shape[-1] - half] += x[..., half:]
            x = folded
        return x[..., 0]

    q, g = queries.astype(np.float64), gallery.astype(np.float64)
    if similarity == "euclidean":
        return -fold((q[:, None] - g[None]) ** 2)
    unit = []
    for rows in (q, g):
        norm = np.sqrt(fold(rows * rows))
        unit.append(rows / np.where(norm > 0, norm, 1)[:, None])
    return fold(unit[0][:, None] * unit[1][None])


def compare(result, want):
    for i, row in enumerate(want):
        if row is None:
            assert result.num_positives[i] == 0
            assert np.isnan(result.average_precision[i])
            assert np.isnan(result.inverse_negative_penalty[i])
            assert result.first_rank[i] == 0
        else:
            assert result.average_precision[i] == pytest.approx(row[0], abs=1e-12)
            assert result.inverse_negative_penalty[i] == pytest.approx(row[1], abs=1e-12)
            assert result.first_rank[i] == row[2]
    valid = [row for row in want if row is not None]
    assert result.num_queries == len(want)
    assert result.num_valid_queries == len(valid)
    assert result.mean_ap == pytest.approx(np.mean([row[0] for row in valid]), abs=1e-12)
    assert result.mean_inp == pytest.approx(np.mean([row[1] for row in valid]), abs=1e-12)
    for k in (1, 2, 5, 1000):
        assert result.rank(k) == pytest.approx(np.mean([row[2] <= k for row in valid]))
    assert result.cmc.tolist() == [result.rank(k) for k in range(1, len(result.cmc) + 1)]


@given(
    settings(),
    st.sampled_from(["cosine", "euclidean"]),
    st.sampled_from(["pessimistic", "optimistic"]),
    st.booleans(),
)
def test_equals_brute_force(setting, similarity, ties, with_cameras):
    queries, gallery, q_ids, g_ids, q_cams, g_cams = setting
    cameras = (q_cams, g_cams) if with_cameras else (None, None)
    want = oracle.evaluate(
        exact(queries, gallery, similarity), q_ids, g_ids, *cameras, pessimistic=ties == "pessimistic"
    )

    def run():
        return evaluate_reid(
            queries,
            gallery,
            query_ids=q_ids,
            gallery_ids=g_ids,
            query_cameras=cameras[0],
            gallery_cameras=cameras[1],
            similarity=similarity,
            ties=ties,
        )

    if all(row is None for row in want):
        with pytest.raises(ValueError, match="at least one query with a match"):
            run()
    else:
        compare(run(), want)


@given(settings(), st.integers(0, 100), st.sampled_from(["cosine", "euclidean"]))
def test_order_of_the_gallery_and_power_of_two_scale_change_no_bit(setting, seed, similarity):
    queries, gallery, q_ids, g_ids = setting[:4]
    q_ids[0] = g_ids[0]
    order = np.random.default_rng(seed).permutation(len(gallery))

    def run(order, scale):
        return evaluate_reid(
            queries * scale,
            gallery[order] * scale,
            query_ids=q_ids,
            gallery_ids=g_ids[order],
            similarity=similarity,
        )

    plain, moved = run(np.arange(len(gallery)), 1), run(order, 0.25)
    assert plain.mean_ap == moved.mean_ap
    assert plain.mean_inp == moved.mean_inp
    np.testing.assert_array_equal(plain.average_precision, moved.average_precision)
    np.testing.assert_array_equal(plain.cmc, moved.cmc)


def clustered(num_queries, num_gallery, identities, dim, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    centres = (
        rng.standard_normal((identities, dim)) + 0.5 * rng.standard_normal((8, dim))[rng.integers(0, 8, identities)]
    )
    q_ids, g_ids = rng.integers(0, identities, num_queries), rng.integers(0, identities, num_gallery)
    queries = centres[q_ids] + noise * rng.standard_normal((num_queries, dim))
    gallery = centres[g_ids] + noise * rng.standard_normal((num_gallery, dim))
    return queries.astype(np.float32), gallery.astype(np.float32), q_ids, g_ids


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_same_bits_for_any_block_thread_count_and_pass(monkeypatch, similarity):
    from clipreid_kit.metrics import ranking

    queries, gallery, q_ids, g_ids = clustered(150, 700, 30, 64, 0, noise=2.0)
    gallery[100:200] = gallery[300:400] * np.float32(1 + 2**-20)  # near ties beyond float32
    gallery[200:250] = gallery[400:450]  # exact ties

    def run():
        return evaluate_reid(queries, gallery, query_ids=q_ids, gallery_ids=g_ids, similarity=similarity)

    want = run()
    compare(want, oracle.evaluate(exact(queries, gallery, similarity), q_ids, g_ids))
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        for number, block, mode in [(1, 1, "highest"), (2, 700 * 7, "highest"), (2, 1 << 23, "medium")]:
            torch.set_num_threads(number)
            torch.set_float32_matmul_precision(mode)
            monkeypatch.setattr(ranking, "_BLOCK", block)
            got = run()
            np.testing.assert_array_equal(got.average_precision, want.average_precision)
            np.testing.assert_array_equal(got.first_rank, want.first_rank)
            assert got.mean_ap == want.mean_ap
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def test_one_float32_ulp_apart_is_told_apart():
    # 512 wide: the float32 product cannot see the difference that decides every rank here
    rng = np.random.default_rng(3)
    base = rng.standard_normal(512).astype(np.float32)
    gallery = np.tile(base, (64, 1))
    for i in range(64):  # row i is turned away from the query by i ulps of one coordinate
        for _ in range(i):
            gallery[i, 7] = np.nextafter(gallery[i, 7], np.float32(np.inf))
    ids = np.array([1 if i % 2 else 0 for i in range(64)])
    query = base[None].copy()
    want = oracle.evaluate(exact(query, gallery, "euclidean"), [1], ids)
    got = evaluate_reid(query, gallery, query_ids=[1], gallery_ids=ids, similarity="euclidean")
    compare(got, want)
    assert got.first_rank[0] == 2
    np.testing.assert_allclose(got.mean_ap, 0.5)  # every other one, from rank 2 on


def test_collapsed_model_scores_near_zero_and_optimistic_would_not():
    rows = np.ones((200, 16), dtype=np.float32)
    ids = np.repeat(np.arange(50), 4)
    collapsed = evaluate_reid(rows[:50], rows, query_ids=np.arange(50), gallery_ids=ids)
    assert collapsed.rank(1) == 0
    assert collapsed.mean_ap < 0.02
    best = evaluate_reid(rows[:50], rows, query_ids=np.arange(50), gallery_ids=ids, ties="optimistic")
    assert best.mean_ap == 1


def test_zero_rows_are_ties_not_nan():
    gallery = np.zeros((4, 3), dtype=np.float32)
    result = evaluate_reid(gallery[:1], gallery, query_ids=[1], gallery_ids=[1, 2, 3, 4])
    assert result.first_rank.tolist() == [4]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_precisions_and_kinds_of_input(dtype):
    queries, gallery, q_ids, g_ids = clustered(20, 60, 8, 16, 1)
    queries, gallery = queries.astype(dtype), gallery.astype(dtype)
    want = oracle.evaluate(exact(queries, gallery, "cosine"), q_ids, g_ids)
    got = evaluate_reid(queries, gallery, query_ids=q_ids, gallery_ids=g_ids)
    compare(got, want)
    as_tensors = evaluate_reid(
        torch.from_numpy(queries),
        torch.from_numpy(gallery),
        query_ids=torch.from_numpy(q_ids),
        gallery_ids=[f"person {i}" for i in g_ids] and torch.from_numpy(g_ids),
    )
    assert as_tensors.mean_ap == got.mean_ap
    named = evaluate_reid(
        queries, gallery, query_ids=[f"p{i}" for i in q_ids], gallery_ids=np.array([f"p{i}" for i in g_ids])
    )
    assert named.mean_ap == got.mean_ap
    read_only = gallery.copy()
    read_only.flags.writeable = False
    assert evaluate_reid(queries, read_only, query_ids=q_ids, gallery_ids=g_ids).mean_ap == got.mean_ap


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_extreme_norms(scale, similarity):
    queries, gallery, q_ids, g_ids = clustered(20, 60, 8, 16, 2)
    factor = np.float32(2.0 ** np.round(np.log2(scale)))
    want = evaluate_reid(queries, gallery, query_ids=q_ids, gallery_ids=g_ids, similarity=similarity)
    got = evaluate_reid(queries * factor, gallery * factor, query_ids=q_ids, gallery_ids=g_ids, similarity=similarity)
    assert got.mean_ap == want.mean_ap


def test_one_row_of_another_scale_does_not_matter_to_cosine():
    queries, gallery, q_ids, g_ids = clustered(20, 60, 8, 16, 2)
    want = evaluate_reid(queries, gallery, query_ids=q_ids, gallery_ids=g_ids)
    gallery[3] *= np.float32(2.0**90)
    gallery[4] *= np.float32(2.0**-90)
    assert evaluate_reid(queries, gallery, query_ids=q_ids, gallery_ids=g_ids).mean_ap == want.mean_ap


def test_camera_rule_by_hand():
    gallery = np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]], dtype=np.float32)
    options = {"query_ids": [5], "gallery_ids": [5, 6, 5, 7]}
    plain = evaluate_reid(gallery[:1], gallery, **options)
    assert plain.rank(1) == 1
    ruled = evaluate_reid(gallery[:1], gallery, **options, query_cameras=[0], gallery_cameras=[0, 0, 1, 1])
    assert ruled.rank(1) == 0  # the frame of the same camera is gone, its wrong neighbour is first
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
        ({"query_embeddings": ROWS.astype(object)}, "query_embeddings as numbers of at most 64 bits, got object"),
        ({"query_embeddings": ROWS.astype(np.float64) * 1e200}, r"1e140 in 3 rows \(first: \[0, 1, 2\]\). Divide all"),
        ({"query_embeddings": ROWS.astype(int)}, "query_embeddings as a floating-point matrix.*int64"),
        ({"query_embeddings": ROWS[:0], "query_ids": []}, "at least one row of query_embeddings, got none"),
        ({"gallery_embeddings": ROWS[:0], "gallery_ids": []}, "at least one row of gallery_embeddings"),
        ({"gallery_embeddings": ROWS[:, :2]}, r"of one width, got \(3, 3\) and \(3, 2\)"),
        (
            {"gallery_embeddings": np.array([[1, 0, 0], [np.nan, 0, 0], [0, np.inf, 0]])},
            r"2 of 3 rows \(first: \[1, 2\]\)",
        ),
        ({"query_ids": [0, 1]}, r"query_ids as 3 ids, one for each row, got shape \(2,\)"),
        ({"query_ids": ["0", "1", "2"]}, "of one kind, got strings and integers. An identity '7' is not"),
        ({"query_ids": [0.0, 1.0, 2.0]}, "query_ids as integers or strings, got float64"),
        ({"query_ids": ["a", 1, 2]}, "query_ids of one kind, got integers and strings mixed"),
        (
            {"query_ids": [7, 8, 9]},
            "3 query identities, none among the 3 of the gallery. Compare how the ids",
        ),
        ({"query_cameras": [0, 0, 0]}, "cameras of both sides or of neither, got query_cameras only"),
        ({"gallery_cameras": [0, 0, 0]}, "got gallery_cameras only"),
        (
            {"query_cameras": [1, 1, 1], "gallery_cameras": [1, 1, 1]},
            "3 of 3 queries with their identity.*left out by the camera rule. If the cameras are unknown",
        ),
        ({"similarity": "manhattan"}, "similarity to be one of cosine, euclidean"),
        ({"ties": "random"}, "ties to be one of pessimistic, optimistic"),
        ({"max_rank": 0}, "max_rank as a whole number >= 1, got 0"),
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
    queries, gallery, q_ids, g_ids = clustered(30, 200, 10, 32, 4, noise=2.0)

    def run():
        return evaluate_reid(queries, gallery, query_ids=q_ids, gallery_ids=g_ids).mean_ap

    want = run()
    try:
        torch.set_default_dtype(torch.float64)
        assert run() == want
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch without this setting")
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
    from clipreid_kit.metrics import ranking

    scored = 0
    original = ranking.exact_similarity

    def counted(queries, *arguments):
        nonlocal scored
        scored += len(queries)
        return original(queries, *arguments)

    monkeypatch.setattr(ranking, "exact_similarity", counted)
    queries, gallery, q_ids, g_ids = clustered(50, 4000, 100, 256, 5, noise=4.0)
    result = evaluate_reid(queries, gallery, query_ids=q_ids, gallery_ids=g_ids)
    assert result.mean_ap < 0.6  # matches lie all over the gallery
    assert scored < 0.03 * len(queries) * len(gallery)


def test_reversed_and_big_endian_arrays():
    queries, gallery, q_ids, g_ids = clustered(10, 50, 5, 8, 6)
    want = evaluate_reid(queries[:, ::-1].copy(), gallery[:, ::-1].copy(), query_ids=q_ids, gallery_ids=g_ids)
    got = evaluate_reid(queries[:, ::-1], gallery[:, ::-1].astype(">f4"), query_ids=q_ids, gallery_ids=g_ids)
    assert got.mean_ap == want.mean_ap
