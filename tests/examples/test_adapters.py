"""The adapters are called as those projects call their own, and return the same figures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import reid as oracle

from clipreid_kit import InfoNCELoss, SupConLoss, TripletLoss, WeightedSum
from examples.adapters import (
    FastReidEvaluator,
    MinedLoss,
    R1mAPEval,
    SentenceTransformersLoss,
    evaluate_rank,
)

NUM_QUERY, NUM_GALLERY = 9, 30


@pytest.fixture
def rows():
    """Features, identities and cameras; the first rows are the queries."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.integers(-9, 10, (NUM_QUERY + NUM_GALLERY, 6))).float()
    pids = torch.from_numpy(rng.integers(0, 5, len(features)))
    camids = torch.from_numpy(rng.integers(0, 3, len(features)))
    return features, pids, camids


def expected(rows, distance="cosine"):
    """CMC, mAP and mINP by brute force."""
    features, pids, camids = (part.numpy() for part in rows)
    query, gallery = slice(NUM_QUERY), slice(NUM_QUERY, None)
    similarity = oracle.exact(features[query], features[gallery], distance)
    columns = [(camids[query], camids[gallery])]
    found = oracle.evaluate(similarity, pids[query], pids[gallery], columns)

    average_precisions, inverse_penalties, first = zip(*(row for row in found if row), strict=True)
    cmc = [np.mean(np.array(first) <= k) for k in range(1, NUM_GALLERY + 1)]
    return np.array(cmc), np.mean(average_precisions), np.mean(inverse_penalties)


def batches(rows, size=7):
    return zip(*(part.split(size) for part in rows), strict=True)


@pytest.mark.parametrize(("feat_norm", "distance"), [("yes", "cosine"), ("no", "euclidean")])
def test_the_evaluator_of_clip_reid_and_transreid(rows, feat_norm, distance):
    evaluator = R1mAPEval(NUM_QUERY, max_rank=50, feat_norm=feat_norm)
    for _ in range(2):  # as at each evaluation of their loop
        evaluator.reset()
        for feat, pid, camid in batches(rows):
            evaluator.update((feat, pid.numpy(), camid.tolist()))
        cmc, mean_ap, _, _, _, qf, gf = evaluator.compute()

    wanted_cmc, wanted_ap, _ = expected(rows, distance)
    assert cmc == pytest.approx(wanted_cmc)
    assert mean_ap == pytest.approx(wanted_ap)
    assert (len(qf), len(gf)) == (NUM_QUERY, NUM_GALLERY)
    for rank in (1, 5, 10):
        assert 0 <= cmc[rank - 1] <= 1


def test_re_ranking_of_clip_reid(rows):
    evaluator = R1mAPEval(NUM_QUERY, reranking=True)
    for batch in batches(rows):
        evaluator.update((*batch, ["path"] * len(batch[0])))  # TransReID passes paths as well
    _, reranked, *_ = evaluator.compute()
    assert reranked != pytest.approx(expected(rows)[1])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_evaluator_of_fast_reid(rows, metric):
    cfg = SimpleNamespace(TEST=SimpleNamespace(METRIC=metric))
    evaluator = FastReidEvaluator(cfg, NUM_QUERY, output_dir=None)
    for _ in range(2):
        evaluator.reset()
        for feat, pid, camid in batches(rows):
            inputs = {"images": None, "targets": pid, "camids": camid}
            evaluator.process(inputs, feat)
        results = evaluator.evaluate()

    cmc, mean_ap, mean_inp = expected(rows, metric)
    assert list(results) == ["Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "metric"]
    assert results["Rank-5"] == pytest.approx(100 * cmc[4])
    assert results["mAP"] == pytest.approx(100 * mean_ap)
    assert results["mINP"] == pytest.approx(100 * mean_inp)
    assert results["metric"] == pytest.approx(50 * (mean_ap + cmc[0]))


def test_evaluate_rank_of_torchreid(rows):
    features, pids, camids = rows
    distances = torch.cdist(features[:NUM_QUERY], features[NUM_QUERY:]).numpy()
    sides = (part.numpy() for part in (pids[:9], pids[9:], camids[:9], camids[9:]))
    cmc, mean_ap = evaluate_rank(distances, *sides, 50, use_cython=False)

    wanted_cmc, wanted_ap, _ = expected(rows, "euclidean")
    assert cmc == pytest.approx(wanted_cmc)
    assert mean_ap == pytest.approx(wanted_ap)


def test_evaluate_rank_of_torchreid_for_cuhk03():
    with pytest.raises(ValueError, match=r"pass them to clipreid_kit\.metrics\.CUHK03Protocol"):
        evaluate_rank(np.zeros((1, 1)), [0], [0], [0], [1], use_metric_cuhk03=True)


def test_a_tie_counts_against_the_model():
    """The order of a sort decides it in those projects."""
    distances = np.zeros((1, 3))
    cmc, mean_ap = evaluate_rank(distances, [0], [0, 1, 2], [0], [1, 1, 1])
    assert cmc.tolist() == [0, 0, 1]
    assert mean_ap == pytest.approx(1 / 3)


def test_a_loss_and_a_miner_of_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    embeddings = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(4).repeat_interleave(2)

    theirs = losses.MultiSimilarityLoss()
    miner = miners.MultiSimilarityMiner()
    terms = {"ms": MinedLoss(theirs, miner), "contrastive": MinedLoss(losses.ContrastiveLoss())}
    total = WeightedSum({"ms": 2.0, "contrastive": 1.0, "triplet": 1.0})
    found, parts = total(
        {
            **{name: term(embeddings, labels) for name, term in terms.items()},
            "triplet": TripletLoss(0.3)(embeddings, labels),
        }
    )
    found.backward()

    mined = theirs(embeddings, labels, miner(embeddings, labels))
    assert parts["ms"] == pytest.approx(2 * mined.item())
    contrastive = losses.ContrastiveLoss()(embeddings, labels)
    assert parts["contrastive"] == pytest.approx(contrastive.item())
    assert embeddings.grad.abs().sum() > 0


class Model(torch.nn.Module):
    """A SentenceTransformer's convention: a dictionary of features gains an embedding."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 4)

    def forward(self, features):
        features.update({"sentence_embedding": self.linear(features["pixel_values"])})
        return features


def columns_of(count):
    """Inputs as its trainer collects them, one dictionary a column."""
    generator = torch.Generator().manual_seed(1)
    return [{"pixel_values": torch.randn(6, 3, generator=generator)} for _ in range(count)]


def test_losses_in_the_trainer_of_sentence_transformers():
    model = Model()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])

    loss = SentenceTransformersLoss(model, SupConLoss(temperature=0.1))
    value = loss(columns_of(1), labels)
    (one,) = (model(features)["sentence_embedding"] for features in columns_of(1))
    assert value == SupConLoss(temperature=0.1)(one, labels)
    value.backward()
    assert model.linear.weight.grad.abs().sum() > 0

    value = SentenceTransformersLoss(model, InfoNCELoss(temperature=0.1))(columns_of(2), labels)
    pair = [model(features)["sentence_embedding"] for features in columns_of(2)]
    assert value == InfoNCELoss(temperature=0.1)(*pair)
