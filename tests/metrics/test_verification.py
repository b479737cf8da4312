import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics import VerificationResult, evaluate_verification, verification


def pairs(queries, gallery, query_ids, gallery_ids, within_queries):
    """Cosines of all genuine and of all impostor pairs."""
    genuine, impostor = [], []
    for i, q in enumerate(queries):
        for j, g in enumerate(gallery):
            if not within_queries or j > i:
                cosine = (q @ g) / (np.linalg.norm(q) * np.linalg.norm(g))
                (genuine if query_ids[i] == gallery_ids[j] else impostor).append(cosine)

    return np.array(genuine), np.array(impostor)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    # corners of a square: cosines are -1, 0 and 1, exactly, and most are tied
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    sets = []
    for _ in range(2):
        count = draw(st.integers(2, 14))
        rows = rng.standard_normal((count, 5)).astype(np.float32)
        sets.append(
            (
                square[rng.integers(0, 4, count)] if draw(st.booleans()) else rows,
                rng.integers(0, 3, count),
            )
        )

    if sets[0][0].shape[1] != sets[1][0].shape[1]:
        sets[1] = (sets[0][0][::-1].copy(), sets[0][1][::-1].copy())

    return sets[0], sets[1], draw(st.booleans())


@given(
    cases(), st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0]), st.sampled_from([1, 17, 1 << 22])
)
def test_equals_counting_all_pairs(case, fpr, block):
    (queries, query_ids), (gallery, gallery_ids), within_queries = case
    if within_queries:
        gallery, gallery_ids = queries, query_ids

    genuine, impostor = pairs(queries, gallery, query_ids, gallery_ids, within_queries)
    arguments = {"query_ids": query_ids, **({} if within_queries else {"gallery_ids": gallery_ids})}
    rows = [torch.from_numpy(queries), None if within_queries else torch.from_numpy(gallery)]
    before, verification._BLOCK = verification._BLOCK, block

    try:
        if len(genuine) == 0 or len(impostor) == 0:
            with pytest.raises(ValueError, match="at least one genuine and one impostor pair"):
                evaluate_verification(*rows, **arguments)
            return
        result = evaluate_verification(*rows, **arguments)
    finally:
        verification._BLOCK = before

    genuine, impostor = (
        genuine.round(5),
        impostor.round(5),
    )  # equal pairs are equal again after rounding
    assert (result.num_genuine, result.num_impostors) == (len(genuine), len(impostor))
    np.testing.assert_allclose(result.similarity, -np.sort(-genuine), atol=2e-5)

    want = max(
        [0.0]
        + [
            (genuine >= t).mean()
            for t in np.concatenate([genuine, impostor])
            if (impostor >= t).mean() <= fpr
        ]
    )

    assert result.tpr(fpr) == pytest.approx(want)

    difference = genuine[:, None] - impostor[None]
    assert result.num_tied == (difference == 0).sum()
    assert result.auc == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())


def test_by_hand():
    result = VerificationResult(np.array([0.9, 0.6, 0.6, 0.1]), np.array([0, 2, 2, 9]), 100, 1)
    assert [result.tpr(x) for x in (0.0, 0.019, 0.02, 0.09, 1.0)] == [0.25, 0.25, 0.75, 1.0, 1.0]
    assert result.threshold(0.02) == 0.6

    fpr, tpr = result.roc()
    assert fpr.tolist() == [0.0, 0.02, 0.02, 0.09]
    assert tpr.tolist() == [0.25, 0.75, 0.75, 1.0]  # equal pairs are accepted together
    assert result.auc == pytest.approx(1 - (0 + 2 + 2 + 9 - 0.5) / 400)

    nothing = VerificationResult(np.array([0.5]), np.array([3]), 10, 0)
    assert nothing.tpr(0.1) == 0.0
    assert nothing.threshold(0.1) == np.inf


def test_no_pair_is_lost_to_rounding_of_the_rate():
    assert 0.29 * 100 < 29
    assert VerificationResult(np.array([0.5]), np.array([29]), 100, 0).tpr(0.29) == 1.0


def test_similarities_of_an_untrained_model_are_cosines():
    """Rows that are close to each other are centred and scaled to be compared."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(8, generator=rng) + 0.01 * torch.randn(12, 8, generator=rng)
    ids = torch.arange(12) // 3
    result = evaluate_verification(rows, query_ids=ids)

    cosines = torch.nn.functional.cosine_similarity(rows[:, None].double(), rows[None].double(), 2)
    is_genuine = (ids[:, None] == ids[None]).triu(1)
    want = cosines[is_genuine].sort(descending=True).values
    assert want[-1] > 0.99
    torch.testing.assert_close(torch.from_numpy(result.similarity), want, rtol=0, atol=1e-9)
    assert 0.99 < result.threshold(0.5) <= 1


def test_a_collapsed_model_accepts_nothing():
    rows = torch.full((40, 6), 0.3)
    result = evaluate_verification(rows, query_ids=torch.arange(40) // 4)

    assert result.tpr(0.5) == 0.0
    assert result.auc == 0.5


def test_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = torch.Generator().manual_seed(0)
    ids = torch.arange(60) % 6
    rows = torch.randn(6, 8, generator=rng)[ids] + torch.randn(60, 8, generator=rng)
    result = evaluate_verification(rows[:20], rows[20:], query_ids=ids[:20], gallery_ids=ids[20:])
    similarity = (
        torch.nn.functional.cosine_similarity(rows[:20, None], rows[None, 20:], dim=2)
        .flatten()
        .numpy()
    )
    match = (ids[:20, None] == ids[None, 20:]).flatten().numpy()

    assert result.auc == pytest.approx(metrics.roc_auc_score(match, similarity), abs=1e-4)

    fpr, tpr, _ = metrics.roc_curve(match, similarity, drop_intermediate=False)
    for rate in (0.001, 0.01, 0.1, 0.5):
        assert result.tpr(rate) == pytest.approx(tpr[fpr <= rate].max(), abs=1e-3)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_embeddings": torch.eye(3) / 0}, "finite query_embeddings"),
        ({"gallery_ids": None}, "gallery_embeddings given without gallery_ids"),
        ({"gallery_embeddings": None}, "gallery_ids given without gallery_embeddings"),
        (
            {"gallery_ids": ["a", "b", "c"]},
            "query_ids are integers and gallery_ids are strings",
        ),
        ({"query_ids": [7, 8, 9]}, "at least one genuine and one impostor pair, got 0 and 9"),
        ({"query_ids": [0, 0, 0], "gallery_ids": [0, 0, 0]}, "got 9 and 0"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "query_embeddings": torch.eye(3),
        "gallery_embeddings": torch.eye(3),
        "query_ids": [0, 1, 2],
        "gallery_ids": [0, 1, 2],
        **change,
    }

    with pytest.raises(ValueError, match=message):
        evaluate_verification(**arguments)


@pytest.mark.parametrize("fpr", [-0.1, 1.1, float("nan")])
def test_rates_out_of_range(fpr):
    result = VerificationResult(np.array([0.5]), np.array([3]), 10, 0)
    with pytest.raises(ValueError, match=r"VerificationResult.tpr: expected fpr in \[0, 1\]"):
        result.tpr(fpr)
    with pytest.raises(ValueError, match=r"VerificationResult.threshold: expected fpr in \[0, 1\]"):
        result.threshold(fpr)


def test_text_and_json():
    import json

    result = VerificationResult(
        np.array([0.9, 0.6, 0.4]), np.array([0, 1, 3]), num_impostors=10, num_tied=0
    )
    values = result.to_dict(fprs=(0.0, 0.1))

    assert values == {
        "tpr_at_fpr_0": 1 / 3,
        "tpr_at_fpr_0.1": 2 / 3,
        "auc": result.auc,
        "num_genuine": 3,
        "num_impostors": 10,
    }
    assert json.loads(result.to_json(fprs=(0.0, 0.1))) == values
    assert result.table(fprs=(0.1,)).splitlines()[1].split() == ["10", "66.67", "0.6000"]
    assert repr(result) == str(result)
    assert (
        str(result)
        == "TPR@FPR 0.1 33.33  TPR@FPR 1 33.33  (AUC 86.67, 3 genuine and 10 impostor pairs)"
    )

    none = VerificationResult(np.array([0.5]), np.array([4]), num_impostors=10, num_tied=0)
    assert "inf" in none.table(fprs=(0.1,))
