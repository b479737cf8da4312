"""Equality with installed peers, where the definitions agree."""

import numpy as np
import pytest
import torch

from clipreid_kit import (
    CenterLoss,
    CircleLoss,
    InfoNCELoss,
    MultiSimilarityLoss,
    SupConLoss,
    TripletLoss,
    evaluate_reid,
)

pytestmark = pytest.mark.reference


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(5)
    return torch.randn(32, 16, generator=rng), torch.arange(32) // 4


def test_supcon_equals_pytorch_metric_learning(batch):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    rows, labels = batch

    assert SupConLoss(0.1)(rows, labels).item() == pytest.approx(
        losses.SupConLoss(temperature=0.1)(rows, labels).item(), rel=1e-5
    )


def test_triplet_equals_pytorch_metric_learning(batch):
    pml = pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, miners, reducers

    assert pml

    rows, labels = batch
    distance = distances.LpDistance(normalize_embeddings=False)
    mined = miners.BatchHardMiner(distance=distance)(rows, labels)

    for margin in (0.3, 3.0):
        want = losses.TripletMarginLoss(
            margin=margin, distance=distance, reducer=reducers.MeanReducer()
        )(rows, labels, mined)
        assert TripletLoss(margin)(rows, labels).item() == pytest.approx(want.item(), rel=1e-5)

    every = losses.TripletMarginLoss(
        margin=0.3, distance=distance, reducer=reducers.AvgNonZeroReducer()
    )

    assert TripletLoss(0.3, mining="all")(rows, labels).item() == pytest.approx(
        every(rows, labels).item(), rel=1e-4
    )


def both(ours, peers, rows):
    """Values and gradients of two losses."""
    found = []
    for loss in (ours, peers):
        leaf = rows.clone().requires_grad_()
        value = loss(leaf)
        value.backward()
        found += [(value.detach(), leaf.grad)]

    return found


def test_triplet_across_modalities_equals_pytorch_metric_learning(batch):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, miners, reducers

    rows, labels = batch
    texts = rows.roll(1, 1) + rows
    distance = distances.LpDistance(normalize_embeddings=False)
    mine = miners.BatchHardMiner(distance=distance)

    for average, reducer in (
        ("mined", reducers.MeanReducer()),
        ("violated", reducers.AvgNonZeroReducer()),
    ):
        peer = losses.TripletMarginLoss(margin=0.3, distance=distance, reducer=reducer)
        ours, theirs = both(
            lambda r, average=average: TripletLoss(0.3, average=average)(r, labels, texts, labels),
            lambda r, peer=peer: peer(r, labels, mine(r, labels, texts, labels), texts, labels),
            rows,
        )

        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_soft_triplet_of_all_equals_pytorch_metric_learning(batch):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, reducers

    rows, labels = batch
    peer = losses.TripletMarginLoss(
        margin=0.0,
        smooth_loss=True,
        distance=distances.LpDistance(normalize_embeddings=False),
        reducer=reducers.MeanReducer(),
    )
    ours = TripletLoss(None, mining="all")

    torch.testing.assert_close(
        *both(lambda r: ours(r, labels), lambda r: peer(r, labels), rows), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("across", [False, True])
def test_circle_equals_pytorch_metric_learning(batch, across):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    rows, labels = batch
    other = (rows.roll(1, 1) + rows, labels.clone()) if across else ()

    for margin, scale in ((0.25, 128.0), (0.4, 80.0)):
        ours, peer = CircleLoss(margin, scale), losses.CircleLoss(m=margin, gamma=scale)
        got, want = both(
            lambda r, ours=ours: ours(r, labels, *other),
            lambda r, peer=peer: peer(r, labels, None, *other),
            rows,
        )

        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("across", [False, True])
def test_multi_similarity_equals_pytorch_metric_learning(batch, across):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import losses, miners

    rows, labels = batch
    other = (rows.roll(1, 1) + rows, labels.clone()) if across else ()

    for epsilon in (0.1, 0.02, None):
        ours = MultiSimilarityLoss(2.0, 50.0, 0.5, epsilon=epsilon)
        peer = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)

        def theirs(r, epsilon=epsilon, peer=peer):
            mined = (
                None if epsilon is None else miners.MultiSimilarityMiner(epsilon)(r, labels, *other)
            )
            return peer(r, labels, mined, *other)

        got, want = both(lambda r, ours=ours: ours(r, labels, *other), theirs, rows)

        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_center_is_half_of_the_strong_baselines(batch):
    rows, labels = batch
    loss = CenterLoss(16, 8)
    every = torch.cdist(rows, loss.centers).square()
    theirs = every[torch.arange(32), labels].clamp(1e-12, 1e12).mean()

    assert 2 * loss(rows, labels).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_info_nce_equals_open_clip(batch):
    from open_clip.loss import ClipLoss

    rows, _ = batch
    images = torch.nn.functional.normalize(rows, dim=1)
    texts = torch.nn.functional.normalize(rows.roll(1, 1) + rows, dim=1)
    want = ClipLoss()(images, texts, torch.tensor(1 / 0.07))

    assert InfoNCELoss(0.07)(images, texts).item() == pytest.approx(want.item(), rel=1e-5)


def test_average_precision_equals_scikit_learn_and_torchmetrics(batch):
    metrics = pytest.importorskip("sklearn.metrics")
    from torchmetrics.functional.retrieval import retrieval_average_precision

    rows, labels = batch
    noisy = rows + torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    result = evaluate_reid(rows, noisy, query_ids=labels, gallery_ids=labels)
    similarity = torch.nn.functional.cosine_similarity(
        rows[:, None].double(), noisy[None].double(), dim=2
    )

    for i in range(len(rows)):
        match = labels == labels[i]
        want = metrics.average_precision_score(match.numpy(), similarity[i].numpy())

        assert result.average_precision[i] == pytest.approx(want, rel=1e-9)

        # torchmetrics drops items whose score is not positive: shift the scores above zero
        shifted = retrieval_average_precision(similarity[i].float() + 2, match).item()

        assert result.average_precision[i] == pytest.approx(shifted, rel=1e-5)


def test_precision_at_one_equals_pytorch_metric_learning(batch):
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    rows, labels = batch
    noisy = rows + 2 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    normalised = [torch.nn.functional.normalize(x, dim=1) for x in (rows, noisy)]
    peer = calculator.AccuracyCalculator(include=("precision_at_1", "mean_average_precision"), k=32)
    want = peer.get_accuracy(normalised[0], labels, normalised[1], labels, ref_includes_query=False)
    result = evaluate_reid(rows, noisy, query_ids=labels, gallery_ids=labels)

    assert result.rank(1) == pytest.approx(want["precision_at_1"])
    assert result.mean_ap == pytest.approx(want["mean_average_precision"], rel=1e-6)
    assert np.isfinite(result.mean_inp)
