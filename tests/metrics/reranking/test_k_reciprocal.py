import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import rerank as oracle

from clipreid_kit._similarity import nearest_in_triangle
from clipreid_kit.metrics import KReciprocalReranker, k_reciprocal_rerank
from clipreid_kit.metrics.reranking import k_reciprocal


def clusters(seed, rows=40, dim=8, identities=6, noise=0.5):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities, dim))
    features = centres[rng.integers(0, identities, rows)] + noise * rng.standard_normal((rows, dim))

    return features.astype(np.float32)


def dense(features, num_queries, **options):
    rows = torch.from_numpy(features)
    return k_reciprocal_rerank(rows[:num_queries], rows[num_queries:], **options).numpy()


@st.composite
def cases(draw):
    features = clusters(
        draw(st.integers(0, 2**31)), draw(st.integers(2, 40)), draw(st.integers(1, 8))
    )

    if draw(st.booleans()):
        # every row twice: exact ties
        half = len(features) // 2
        features[half:] = features[: len(features) - half]

    if draw(st.booleans()):
        features[0] = 0

    options = {
        "k1": draw(st.integers(1, 45)),
        "k2": draw(st.integers(1, 45)),
        "lambda_value": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "distance": draw(st.sampled_from(["cosine", "euclidean"])),
    }

    return features, draw(st.integers(1, len(features) - 1)), options


@given(cases())
@settings(max_examples=150)
def test_equals_the_dense_definition(case):
    features, num_queries, options = case
    want = oracle.rerank(features[:num_queries], features[num_queries:], **options)
    np.testing.assert_allclose(dense(features, num_queries, **options), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_equals_the_dense_definition_on_many_tiles_and_blocks(monkeypatch, distance):
    features = clusters(1, 90, 16, 9)
    want = oracle.rerank(features[:20], features[20:], 12, 4, 0.3, distance)

    for rows, columns, block, expanded in (
        (7, 20, 1, 1),
        (13, 13, 70 * 3, 100),
        (90, 90, 1 << 20, 1 << 20),
    ):
        monkeypatch.setattr(nearest_in_triangle, "ROWS", rows)
        monkeypatch.setattr(nearest_in_triangle, "COLUMNS", columns)
        monkeypatch.setattr(k_reciprocal, "_BLOCK", block)
        monkeypatch.setattr(k_reciprocal, "_MAX_MEETINGS", expanded)
        got = dense(features, 20, k1=12, k2=4, distance=distance)

        np.testing.assert_allclose(got, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_blocks_are_rows_of_the_matrix(distance):
    rows = torch.from_numpy(clusters(2))
    reranker = KReciprocalReranker(rows[:11], rows[11:], k1=6, k2=3, distance=distance)
    want = k_reciprocal_rerank(rows[:11], rows[11:], k1=6, k2=3, distance=distance)

    assert (reranker.num_queries, reranker.num_gallery) == (11, 29)
    torch.testing.assert_close(reranker.block(0, 11), want, atol=1e-6, rtol=0)
    torch.testing.assert_close(reranker.block(4, 5), want[4:5], atol=1e-6, rtol=0)
    torch.testing.assert_close(reranker.similarity(10, 11), -want[10:], atol=1e-6, rtol=0)

    parts = list(reranker)
    assert [part.start for part, _ in parts] == [0]
    torch.testing.assert_close(torch.cat([block for _, block in parts]), want, atol=1e-6, rtol=0)


def test_iteration_covers_every_query_once(monkeypatch):
    rows = torch.from_numpy(clusters(2))
    monkeypatch.setattr(k_reciprocal, "_PRODUCT", 29 * 4)
    reranker = KReciprocalReranker(rows[:11], rows[11:], k1=6)

    assert [(part.start, part.stop) for part, _ in reranker] == [(0, 4), (4, 8), (8, 11)]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_threads_that_divide_a_block_change_nothing(monkeypatch, distance):
    rows = torch.from_numpy(clusters(4, 90))
    options = {"k1": 6, "k2": 3, "distance": distance}
    matrix = k_reciprocal_rerank(rows[:40], rows[40:], **options)
    block = KReciprocalReranker(rows[:40], rows[40:], **options).block(3, 33)

    monkeypatch.setattr(k_reciprocal, "_LEAST_DIVIDED", 1)
    monkeypatch.setattr(k_reciprocal, "_PANEL", 7)
    monkeypatch.setattr(k_reciprocal, "_BLOCK", 50 * 4)
    monkeypatch.setattr(k_reciprocal, "default_threads", lambda: 3)
    divided = KReciprocalReranker(rows[:40], rows[40:], **options).block(3, 33)

    torch.testing.assert_close(divided, block, atol=1e-6, rtol=0)
    assert torch.equal(k_reciprocal_rerank(rows[:40], rows[40:], **options), matrix)


def test_by_hand():
    # one direction three times, and its opposite twice; with k1 = 1 a set is the row and its twin
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    got = k_reciprocal_rerank(rows[:1], rows[1:], k1=1, k2=1, lambda_value=0.3)

    torch.testing.assert_close(got, torch.tensor([[0.0, 1.0, 1.0]]))

    # without the original distance, rows without a common neighbour are at 1, however near
    near = torch.tensor([[1.0, 0.0], [0.99, 0.01], [0.9, 0.3], [0.89, 0.31]])
    got = k_reciprocal_rerank(near[:1], near[1:], k1=1, k2=1, lambda_value=0.0)

    assert got[0, 1:].tolist() == [1.0, 1.0]
    assert got[0, 0] < 0.01


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_all_rows_equal_is_all_distances_equal_to_the_definition(distance):
    features = np.ones((30, 4), dtype=np.float32)
    want = oracle.rerank(features[:5], features[5:], 20, 6, 0.3, distance)
    np.testing.assert_allclose(dense(features, 5, distance=distance), want, atol=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(4))
def test_rounding_of_equal_rows_is_not_a_distance(distance, seed):
    features = np.tile(np.random.default_rng(seed).standard_normal(37).astype(np.float32), (30, 1))
    np.testing.assert_array_equal(
        dense(features, 5, distance=distance), dense(np.ones_like(features), 5, distance=distance)
    )


def test_a_zero_row_is_at_distance_zero_from_itself_alone():
    features = clusters(8, 8, 4)
    features[0] = 0
    want = oracle.rerank(features[:2], features[2:], 7, 1, 0.0)

    np.testing.assert_allclose(dense(features, 2, k1=7, k2=1, lambda_value=0.0), want, atol=1e-6)


def test_only_the_original_distance_remains_at_lambda_one():
    rows = torch.from_numpy(clusters(3))
    got = k_reciprocal_rerank(rows[:5], rows[5:], lambda_value=1.0)
    cosine = torch.nn.functional.cosine_similarity(rows[:5, None], rows[None], dim=2)
    want = (1 - cosine) / (1 - cosine).amax(dim=1, keepdim=True)

    torch.testing.assert_close(got, want[:, 5:], atol=1e-6, rtol=0)


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_scale_and_order_of_the_gallery_change_nothing(seed, scale):
    features = clusters(seed)
    order = np.random.default_rng(seed).permutation(33)
    plain = dense(features, 7)
    moved = np.concatenate([features[:7], features[7:][order]])

    np.testing.assert_allclose(dense(moved, 7), plain[:, order], atol=2e-6)
    np.testing.assert_allclose(dense(features * np.float32(scale), 7), plain, atol=2e-6)


def test_cosine_is_squared_euclidean_of_unit_rows():
    rows = torch.nn.functional.normalize(torch.from_numpy(clusters(4)).double(), dim=1)
    for options in ({"k1": 20}, {"k1": 5, "k2": 2}):
        first = k_reciprocal_rerank(rows[:7], rows[7:], distance="cosine", **options)
        second = k_reciprocal_rerank(rows[:7], rows[7:], distance="euclidean", **options)
        torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_euclidean_survives_a_common_offset_and_any_magnitude():
    features = clusters(5)
    want = dense(features, 7, distance="euclidean")
    shifted = features.astype(np.float64) + 1000.0

    np.testing.assert_allclose(dense(shifted, 7, distance="euclidean"), want, atol=1e-5)
    for scale in (2.0**-60, 2.0**60):
        np.testing.assert_array_equal(
            dense(features * np.float32(scale), 7, distance="euclidean"), want
        )


def test_improves_clusters():
    rng = np.random.default_rng(0)
    ids = np.arange(200) % 10
    centres = rng.standard_normal((10, 16))
    features = (centres[ids] + 1.2 * rng.standard_normal((200, 16))).astype(np.float32)
    before = 1 - oracle.distances(features, "cosine")[:40, 40:]
    after = -dense(features, 40)
    match = ids[:40, None] == ids[None, 40:]

    def mean_average_precision(similarity):
        hits = np.take_along_axis(match, np.argsort(-similarity, axis=1), axis=1)
        precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
        return ((precision * hits).sum(axis=1) / hits.sum(axis=1)).mean()

    assert mean_average_precision(after) > mean_average_precision(before) + 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    rows = torch.from_numpy(clusters(6)).to(dtype)
    got = k_reciprocal_rerank(rows[:7], rows[7:])

    assert got.dtype == torch.float32

    want = oracle.rerank(rows[:7].double().numpy(), rows[7:].double().numpy(), 20, 6, 0.3)
    np.testing.assert_allclose(got.numpy(), want, atol=1e-6)


def test_inputs_are_unchanged_and_there_is_no_gradient():
    rows = torch.from_numpy(clusters(7)).requires_grad_()
    copy = rows.detach().clone()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = k_reciprocal_rerank(rows[:7], rows[7:])

    assert not got.requires_grad
    assert torch.equal(rows, copy)
    torch.testing.assert_close(got, k_reciprocal_rerank(copy[:7], copy[7:]))


ROWS = torch.eye(4)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"query_embeddings": ROWS[0]},
            r"query_embeddings as a floating-point matrix \(N, D\), got shape \(4,\)",
        ),
        ({"gallery_embeddings": ROWS[:, :2]}, "of one width"),
        ({"gallery_embeddings": ROWS[:0]}, "gallery_embeddings has no rows"),
        (
            {"query_embeddings": ROWS / 0},
            r"finite query_embeddings, got NaN or infinity in 4 of 4 rows \(first: \[0, 1",
        ),
        (
            {"gallery_embeddings": ROWS.double() * 1e200},
            "gallery_embeddings with magnitudes between 1e-140 and 1e140",
        ),
        ({"k1": 0}, "k1 as a whole number >= 1, got 0"),
        ({"k2": 0}, "k2 as a whole number >= 1, got 0"),
        ({"lambda_value": 1.1}, r"lambda_value in \[0, 1\], got 1.1"),
        ({"lambda_value": float("nan")}, r"lambda_value in \[0, 1\], got nan"),
        ({"distance": "manhattan"}, "distance to be one of cosine, euclidean, got 'manhattan'"),
    ],
)
@pytest.mark.parametrize(
    "call", [k_reciprocal_rerank, KReciprocalReranker], ids=lambda c: c.__name__
)
def test_bad_input(call, change, message):
    arguments = {"query_embeddings": ROWS, "gallery_embeddings": ROWS, **change}
    queries, gallery = arguments.pop("query_embeddings"), arguments.pop("gallery_embeddings")

    with pytest.raises(ValueError, match=f"{call.__name__}: .*{message}"):
        call(queries, gallery, **arguments)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 5), (2, 1)])
def test_a_range_outside_the_queries(start, stop):
    with pytest.raises(ValueError, match="block: expected 0 <= start < stop <= 4, got start="):
        KReciprocalReranker(ROWS, ROWS).block(start, stop)


def test_a_negative_start():
    with pytest.raises(ValueError, match="block: expected start as a whole number >= 0, got -1"):
        KReciprocalReranker(ROWS, ROWS).block(-1, 2)


def test_repr_shows_sizes_and_options():
    assert repr(KReciprocalReranker(ROWS[:1], ROWS, k1=3)) == (
        "KReciprocalReranker(num_queries=1, num_gallery=4, k1=3, k2=6, lambda_value=0.3, "
        "distance='cosine')"
    )
