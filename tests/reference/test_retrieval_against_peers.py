"""Equality of retrieval measures with installed peers, where the definitions agree."""

import numpy as np
import pytest
import torch

from clipreid_kit import evaluate_retrieval

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def sets():
    rng = torch.Generator().manual_seed(5)
    centres = torch.randn(12, 16, generator=rng, dtype=torch.float64)
    query_ids, gallery_ids = (
        torch.arange(40) % 14,
        torch.arange(200) % 12,
    )  # two query ids are not in the gallery
    queries = torch.cat([centres, centres[:2]])[query_ids] + 1.5 * torch.randn(
        40, 16, generator=rng, dtype=torch.float64
    )
    gallery = centres[gallery_ids] + 1.5 * torch.randn(200, 16, generator=rng, dtype=torch.float64)
    similarity = (
        torch.nn.functional.normalize(queries, dim=1)
        @ torch.nn.functional.normalize(gallery, dim=1).T
    )
    result = evaluate_retrieval(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids)

    return similarity, query_ids[:, None] == gallery_ids[None], result


def test_torchmetrics(sets):
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    similarity, match, result = sets
    index = torch.arange(len(match))[:, None].expand_as(match).flatten()

    def peer(metric):
        # it drops items whose score is not positive: shift all above zero
        return metric(similarity.flatten() + 2, match.flatten(), indexes=index).item()

    skip = {"empty_target_action": "skip"}
    assert result.num_queries - result.num_valid_queries > 0
    assert result.mean_ap == pytest.approx(peer(retrieval.RetrievalMAP(**skip)), rel=1e-5)
    assert result.mean_reciprocal_rank == pytest.approx(
        peer(retrieval.RetrievalMRR(**skip)), rel=1e-5
    )
    assert result.r_precision == pytest.approx(
        peer(retrieval.RetrievalRPrecision(**skip)), rel=1e-5
    )

    for k in (1, 5, 20):
        assert result.ndcg(k) == pytest.approx(
            peer(retrieval.RetrievalNormalizedDCG(top_k=k, **skip)), rel=1e-5
        )
        assert result.hit_rate(k) == pytest.approx(
            peer(retrieval.RetrievalHitRate(top_k=k, **skip)), rel=1e-5
        )
        assert result.recall(k) == pytest.approx(
            peer(retrieval.RetrievalRecall(top_k=k, **skip)), rel=1e-5
        )
        assert result.precision(k) == pytest.approx(
            peer(retrieval.RetrievalPrecision(top_k=k, **skip)), rel=1e-5
        )


def test_scikit_learn(sets):
    metrics = pytest.importorskip("sklearn.metrics")
    similarity, match, result = sets
    valid = match.any(dim=1).numpy()
    precision = result.of_each("average_precision")

    for i in np.flatnonzero(valid):
        want = metrics.average_precision_score(match[i].numpy(), similarity[i].numpy())
        assert precision[i] == pytest.approx(want, rel=1e-9)

    for k in (1, 10, None):
        want = metrics.ndcg_score(
            match.numpy()[valid].astype(float), similarity.numpy()[valid], k=k
        )
        assert result.ndcg(k) == pytest.approx(want, rel=1e-9)


def test_pytorch_metric_learning():
    module = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    rng = torch.Generator().manual_seed(6)
    labels = torch.arange(120) % 12
    rows = torch.randn(12, 16, generator=rng)[labels] + 1.2 * torch.randn(120, 16, generator=rng)
    rows = torch.nn.functional.normalize(rows, dim=1)
    names = ("mean_average_precision_at_r", "r_precision", "precision_at_1", "mean_reciprocal_rank")
    calculator = module.AccuracyCalculator(include=names, k=119)
    want = calculator.get_accuracy(rows, labels)  # leave-one-out
    result = evaluate_retrieval(rows, query_ids=labels)

    assert result.mean_ap_at_r == pytest.approx(want["mean_average_precision_at_r"], rel=1e-6)
    assert result.r_precision == pytest.approx(want["r_precision"], rel=1e-6)
    assert result.precision(1) == pytest.approx(want["precision_at_1"], rel=1e-6)
    assert result.mean_reciprocal_rank == pytest.approx(want["mean_reciprocal_rank"], rel=1e-6)
