import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics import OpenSetResult, evaluate_open_set, evaluate_reid, open_set


def brute_force(queries, gallery, query_ids, gallery_ids, fpir, rank):
    """Try every threshold at which a rate changes."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    cosine = (unit[0][:, None] * unit[1][None]).sum(-1).round(5)
    known = np.isin(query_ids, gallery_ids)
    best = 0.0
    for t in [-2.0, *cosine.ravel()]:
        if (cosine[~known].max(axis=1) > t).mean() > fpir:
            continue

        found = 0
        for i in np.flatnonzero(known):
            own = cosine[i][gallery_ids == query_ids[i]].max()
            place = 1 + (cosine[i][gallery_ids != query_ids[i]] >= own).sum()
            found += own > t and place <= rank

        best = max(best, found / known.sum())

    return best


@given(
    st.integers(0, 2**31),
    st.booleans(),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]),
    st.integers(1, 3),
    st.sampled_from([1, 30, 1 << 22]),
)
def test_equals_brute_force_over_thresholds(seed, tied, fpir, rank, block):
    rng = np.random.default_rng(seed)
    queries, gallery = (rng.standard_normal((n, 3)).astype(np.float32) for n in (12, 10))

    if tied:
        queries, gallery = (
            np.eye(3, dtype=np.float32)[rng.integers(0, 3, 12)],
            np.eye(3, dtype=np.float32)[rng.integers(0, 3, 10)],
        )

    query_ids, gallery_ids = rng.integers(0, 8, 12), rng.integers(0, 5, 10)
    query_ids[0], query_ids[1] = gallery_ids[0], 9
    before, open_set._BLOCK = open_set._BLOCK, block

    try:
        result = evaluate_open_set(
            torch.from_numpy(queries),
            torch.from_numpy(gallery),
            query_ids=query_ids,
            gallery_ids=gallery_ids,
        )
    finally:
        open_set._BLOCK = before

    assert result.num_mated + result.num_non_mated == 12
    assert result.num_mated == np.isin(query_ids, gallery_ids).sum()
    assert result.tpir(fpir, rank) == pytest.approx(
        brute_force(queries, gallery, query_ids, gallery_ids, fpir, rank)
    )


def test_by_hand():
    result = OpenSetResult(np.array([0.9, 0.7, 0.5]), np.array([1, 2, 1]), np.array([0.8, 0.6]))
    assert [result.threshold(x) for x in (0.0, 0.49, 0.5, 0.99)] == [0.8, 0.8, 0.6, 0.6]
    assert result.threshold(1.0) == -np.inf
    assert result.tpir(1.0) == pytest.approx(2 / 3)
    assert result.tpir(1.0, rank=2) == 1.0
    # a tie is not above the threshold
    tied = OpenSetResult(np.array([0.8]), np.array([1]), np.array([0.8]))
    assert tied.tpir(0.0) == 0.0


def test_similarities_of_an_untrained_model_are_cosines():
    """Rows that are close to each other are centred and scaled to be compared."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(8, generator=rng) + 0.01 * torch.randn(12, 8, generator=rng)
    queries, gallery = rows[:4], rows[4:]
    result = evaluate_open_set(
        queries, gallery, query_ids=[0, 1, 8, 9], gallery_ids=torch.arange(8).tolist()
    )

    cosines = torch.nn.functional.cosine_similarity(
        queries[:, None].double(), gallery[None].double(), 2
    ).numpy()
    np.testing.assert_allclose(result.mated_similarity, cosines[[0, 1], [0, 1]], atol=1e-9)
    np.testing.assert_allclose(
        result.non_mated_similarity, -np.sort(-cosines[2:].max(axis=1)), atol=1e-9
    )
    assert 0.99 < result.threshold(0.0) <= 1


def test_without_a_threshold_tpir_is_rank_k_of_the_mated():
    rng = torch.Generator().manual_seed(0)
    ids = torch.arange(60) % 12
    rows = torch.randn(12, 8, generator=rng)[ids] + 1.5 * torch.randn(60, 8, generator=rng)
    gallery = ids[24:] < 8
    result = evaluate_open_set(
        rows[:24], rows[24:][gallery], query_ids=ids[:24], gallery_ids=ids[24:][gallery]
    )
    closed = evaluate_reid(
        rows[:24], rows[24:][gallery], query_ids=ids[:24], gallery_ids=ids[24:][gallery]
    )

    assert closed.num_valid_queries == result.num_mated == 16
    for k in (1, 3):
        assert result.tpir(1.0, rank=k) == closed.rank(k)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"query_ids": [0, 1, 2]},
            "all of the 3 queries have their identity in the gallery.*For a closed set",
        ),
        ({"query_ids": [7, 8, 9]}, "none of the 3 queries have their identity in the gallery"),
        ({"query_ids": [0, 1]}, "query_ids as 3 ids"),
        ({"gallery_embeddings": torch.eye(3) / 0}, "finite gallery_embeddings"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "query_embeddings": torch.eye(3),
        "gallery_embeddings": torch.eye(3),
        "query_ids": [0, 1, 9],
        "gallery_ids": [0, 1, 2],
        **change,
    }

    with pytest.raises(ValueError, match=f"evaluate_open_set: .*{message}"):
        evaluate_open_set(**arguments)


@pytest.mark.unhooked
def test_bad_options():
    result = OpenSetResult(np.array([0.9]), np.array([1]), np.array([0.8]))
    with pytest.raises(ValueError, match=r"fpir in \[0, 1\], got 2"):
        result.tpir(2)
    with pytest.raises(ValueError, match="rank as a whole number >= 1, got 0"):
        result.tpir(0.1, rank=0)


def test_text_and_json():
    import json

    result = OpenSetResult(np.array([0.9, 0.7, 0.5]), np.array([1, 2, 1]), np.array([0.8, 0.6]))
    values = result.to_dict(fpirs=(0.0, 0.5), rank=2)

    assert values == {
        "tpir_at_fpir_0": 1 / 3,
        "tpir_at_fpir_0.5": 2 / 3,
        "rank": 2,
        "num_mated": 3,
        "num_non_mated": 2,
    }
    assert json.loads(result.to_json(fpirs=(0.0, 0.5), rank=2)) == values
    assert result.table(fpirs=(0.5,), rank=2).splitlines()[1].split() == ["50", "66.67", "0.6000"]
    assert repr(result) == str(result)
    assert (
        str(result)
        == "TPIR@FPIR 1 33.33  TPIR@FPIR 10 33.33  (rank 1, 3 mated and 2 non-mated queries)"
    )
