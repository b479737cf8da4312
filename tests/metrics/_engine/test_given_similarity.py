import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import reid as oracle

from clipreid_kit.metrics import KReciprocalReranker, evaluate_reid, evaluate_reid_similarity


@given(
    st.integers(0, 10_000), st.sampled_from(["pessimistic", "optimistic", "mean"]), st.booleans()
)
def test_matrix_equals_brute_force(seed, ties, as_tensor):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-2, 3, (5, 7)).astype(np.float32)
    query_ids, gallery_ids = rng.integers(0, 3, 5), np.append(rng.integers(0, 4, 6), 0)
    query_ids[0] = 0
    want = oracle.evaluate(matrix, query_ids, gallery_ids, ties=ties, junk=[3])
    given_matrix = torch.from_numpy(matrix).bfloat16() if as_tensor else matrix
    result = evaluate_reid_similarity(
        given_matrix, query_ids=query_ids, gallery_ids=gallery_ids, ties=ties, junk_ids=[3]
    )

    for i, row in enumerate(want):
        if row is not None:
            assert result.average_precision[i] == pytest.approx(row[0], abs=1e-12)
            assert result.first_rank[i] == pytest.approx(row[2])

    assert result.num_valid_queries == sum(row is not None for row in want)


@given(st.integers(0, 10_000), st.sampled_from([np.exp, np.cbrt, lambda x: 3 * x - 7, np.arctan]))
def test_increasing_maps_change_nothing(seed, increasing):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-3, 4, (6, 20)).astype(np.float64)
    ids = {"query_ids": np.arange(6), "gallery_ids": rng.permutation(np.arange(20) % 8)}
    plain = evaluate_reid_similarity(matrix, **ids)
    mapped = evaluate_reid_similarity(increasing(matrix), **ids)

    np.testing.assert_array_equal(plain.average_precision, mapped.average_precision)
    np.testing.assert_array_equal(plain.first_rank, mapped.first_rank)


def dot(queries, gallery):
    return queries.double() @ gallery.double().T


def setting():
    rng = np.random.default_rng(0)
    return rng.integers(-3, 4, (9, 4)).astype(np.float32), rng.integers(-3, 4, (40, 4)).astype(
        np.float32
    )


def test_function_equals_its_matrix_in_blocks_and_from_a_file(monkeypatch, tmp_path):
    from clipreid_kit.metrics._engine import given_similarity

    queries, gallery = setting()
    ids = {"query_ids": np.arange(9) % 5, "gallery_ids": np.arange(40) % 6, "junk_ids": [4]}
    ids |= {"query_cameras": np.arange(9) % 2, "gallery_cameras": np.arange(40) % 3}
    want = evaluate_reid_similarity(queries @ gallery.T, **ids)
    monkeypatch.setattr(given_similarity, "_BLOCK", 80)
    monkeypatch.setattr(given_similarity, "_STREAMED_TILE", 7)
    np.save(tmp_path / "gallery.npy", gallery)
    from_file = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    seen = []

    def watched(a, b):
        seen.append((len(a), len(b)))
        return dot(a, b)

    for rows in (gallery, from_file):
        got = evaluate_reid(queries, rows, similarity=watched, **ids)
        np.testing.assert_array_equal(got.average_precision, want.average_precision)
        np.testing.assert_array_equal(got.first_rank, want.first_rank)

    assert set(seen) == {(2, 40), (1, 40), (2, 7), (1, 7), (2, 5), (1, 5)}


def test_leave_one_out_with_a_matrix_and_with_a_function():
    rows = setting()[1][:12]
    ids = np.arange(12) % 4
    want = evaluate_reid(rows, query_ids=ids, similarity=dot)
    got = evaluate_reid_similarity(rows @ rows.T, query_ids=ids)

    np.testing.assert_array_equal(got.average_precision, want.average_precision)
    assert got.num_positives.tolist() == [2] * 12


def test_infinite_similarities_are_ranked():
    matrix = np.array([[-np.inf, 0.0, np.inf, -np.inf]])
    result = evaluate_reid_similarity(matrix, query_ids=[1], gallery_ids=[1, 2, 3, 4])

    assert result.first_rank.tolist() == [4]
    assert evaluate_reid_similarity(
        matrix, query_ids=[1], gallery_ids=[1, 2, 3, 4], ties="optimistic"
    ).first_rank.tolist() == [3]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("similarity", "options", "message"),
    [
        (np.ones((2, 3)), {}, r"one for each row, got shape \(2,\)"),
        (np.ones(3), {}, r"a matrix \(Q, G\) that is not empty, got shape \(3,\)"),
        (np.ones((2, 0)), {}, r"got shape \(2, 0\)"),
        (
            np.ones((2, 3)),
            {"gallery_ids": None},
            r"similarity is a square matrix \(leave-one-out\), got shape \(2, 3\)",
        ),
        (np.full((2, 2), np.nan), {}, "similarity holds NaN in 4 places"),
        (
            np.eye(2, dtype=complex),
            {},
            "similarity as real numbers of at most 64 bits, got complex128",
        ),
        (
            torch.eye(2, dtype=torch.complex64),
            {},
            "similarity as real numbers of at most 64 bits, got torch.complex64",
        ),
        (np.eye(2, dtype=object), {}, "similarity as real numbers of at most 64 bits, got object"),
        (np.full((2, 2), "near"), {}, "similarity as real numbers"),
        (torch.eye(2).to_sparse(), {}, "similarity as a dense tensor, got sparse_coo"),
        (
            np.ma.masked_array(np.eye(2), mask=np.eye(2)),
            {},
            "similarity without a mask, got 2 masked values",
        ),
        (
            np.array([[2**53, 2**53 + 1], [0, 0]]),
            {},
            r"whole numbers below 2\^53 as similarities, got 9\.\d+e\+15",
        ),
    ],
)
def test_bad_matrix(similarity, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_reid_similarity(
            similarity, **{"query_ids": [0, 1], "gallery_ids": [0, 1], **options}
        )


@pytest.mark.unhooked
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool", "float16"])
def test_similarities_of_other_types(dtype):
    values = np.array([[1, 0, 1], [0, 1, 0]]).astype(dtype)
    ids = {"query_ids": [0, 1], "gallery_ids": [0, 1, 0]}

    for similarity in (values, torch.from_numpy(values)):
        assert evaluate_reid_similarity(similarity, **ids).mean_ap == 1


def test_bad_function():
    rows = np.eye(3)
    with pytest.raises(
        ValueError, match=r"similarities \(queries, gallery\) of shape \(3, 3\), got shape \(3, 2\)"
    ):
        evaluate_reid(
            rows,
            rows,
            query_ids=[0, 1, 2],
            gallery_ids=[0, 1, 2],
            similarity=lambda a, b: (a @ b.T)[:, 1:],
        )


def crowd(seed=0):
    rng = np.random.default_rng(seed)
    ids = np.arange(72) % 6
    rows = torch.from_numpy(rng.standard_normal((6, 8))[ids] + rng.standard_normal((72, 8))).float()

    return rows[:12], rows[12:], {"query_ids": ids[:12], "gallery_ids": ids[12:]}


def test_re_ranker_equals_its_matrix_and_is_read_by_blocks(monkeypatch):
    from clipreid_kit.metrics._engine import given_similarity

    queries, gallery, ids = crowd()
    cameras = {"query_cameras": np.arange(12) % 2, "gallery_cameras": np.arange(60) % 3}
    reranker = KReciprocalReranker(queries, gallery, k1=6, k2=3)
    whole = torch.cat(
        [
            reranker.similarity(i, i + 5) if i < 10 else reranker.similarity(i, 12)
            for i in (0, 5, 10)
        ]
    )
    want = evaluate_reid_similarity(whole, **ids, **cameras)
    sizes = []
    original = KReciprocalReranker.block
    monkeypatch.setattr(
        KReciprocalReranker, "block", lambda self, a, b: sizes.append(b - a) or original(self, a, b)
    )
    monkeypatch.setattr(given_similarity, "_BLOCK", 300)
    got = evaluate_reid_similarity(reranker, **ids, **cameras)

    np.testing.assert_array_equal(got.average_precision, want.average_precision)
    np.testing.assert_array_equal(got.first_rank, want.first_rank)
    assert sizes == [5, 5, 2]
    assert got.mean_ap > evaluate_reid(queries, gallery, **ids, **cameras).mean_ap


@pytest.mark.unhooked
def test_re_ranker_bad_input():
    queries, gallery, ids = crowd()
    reranker = KReciprocalReranker(queries, gallery)

    with pytest.raises(
        ValueError, match="pass a matrix or a re-ranker to evaluate_reid_similarity"
    ):
        evaluate_reid(queries, gallery, similarity=reranker, **ids)

    with pytest.raises(ValueError, match=r"re-ranker needs gallery_ids.*its own neighbour"):
        evaluate_reid_similarity(reranker, query_ids=ids["query_ids"])
    with pytest.raises(ValueError, match="query_ids as 12 ids, one for each row"):
        evaluate_reid_similarity(reranker, query_ids=[1], gallery_ids=ids["gallery_ids"])
    with pytest.raises(
        ValueError, match="pass a matrix or a re-ranker to evaluate_reid_similarity"
    ):
        evaluate_reid(queries, gallery, similarity=KReciprocalReranker, **ids)

    with pytest.raises(ValueError, match="distance and similarity exclude each other"):
        evaluate_reid(queries, gallery, similarity=dot, distance="euclidean", **ids)
    with pytest.raises(ValueError, match=r"a KReciprocalReranker, got function. A function of"):
        evaluate_reid_similarity(dot, **ids)
