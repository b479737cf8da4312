"""Heads and proxies equal pytorch-metric-learning, gradients included."""

import math

import pytest
import torch

from clipreid_kit import ArcFaceLoss, CosFaceLoss, ProxyAnchorLoss, arcface_loss

pytestmark = pytest.mark.reference
DIM, IDENTITIES = 16, 12


@pytest.fixture
def losses():
    return pytest.importorskip("pytorch_metric_learning.losses")


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(5)
    return torch.randn(32, DIM, generator=rng), torch.randint(IDENTITIES, (32,), generator=rng)


def compare(ours, our_weight, peer, peer_weight, rows, labels):
    """Compare the values and the gradients by rows and weight; the peer's weight may be (D, C)."""
    with torch.no_grad():
        peer_weight.copy_(our_weight if peer_weight.shape == our_weight.shape else our_weight.T)

    results = []
    for loss, weight in ((ours, our_weight), (peer, peer_weight)):
        leaf = rows.clone().requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        gradient = weight.grad if weight.grad.shape == our_weight.shape else weight.grad.T
        results.append((value.detach(), leaf.grad, gradient))

    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("margin", [0.1, 0.5, 2.0])
def test_arcface(losses, batch, margin):
    ours = ArcFaceLoss(DIM, IDENTITIES, 20.0, margin)
    peer = losses.ArcFaceLoss(IDENTITIES, DIM, margin=math.degrees(margin), scale=20)
    compare(ours, ours.head.weight, peer, peer.W, *batch)


def test_sub_center_arcface(losses, batch):
    ours = ArcFaceLoss(DIM, IDENTITIES, 20.0, 0.5, num_centers=3)
    peer = losses.SubCenterArcFaceLoss(
        num_classes=IDENTITIES,
        embedding_size=DIM,
        margin=math.degrees(0.5),
        scale=20,
        sub_centers=3,
    )
    compare(ours, ours.head.weight, peer, peer.W, *batch)


def test_cosface(losses, batch):
    ours = CosFaceLoss(DIM, IDENTITIES, 20.0, 0.35)
    peer = losses.CosFaceLoss(IDENTITIES, DIM, margin=0.35, scale=20)
    compare(ours, ours.head.weight, peer, peer.W, *batch)


def test_proxy_anchor(losses, batch):
    ours = ProxyAnchorLoss(DIM, IDENTITIES)
    peer = losses.ProxyAnchorLoss(IDENTITIES, DIM)
    compare(ours, ours.weight, peer, peer.proxies, *batch)


@pytest.mark.parametrize("easy", [False, True])
def test_arcface_of_clip_reid(batch, easy):
    """Restated: the sine by a clamped root, a threshold, and a one-hot matrix that mixes both."""
    rows, labels = batch
    weight = torch.randn(IDENTITIES, DIM, generator=torch.Generator().manual_seed(2))
    margin, scale = 0.4, 30.0
    cosine = torch.nn.functional.linear(
        torch.nn.functional.normalize(rows), torch.nn.functional.normalize(weight)
    )
    sine = (1 - cosine**2).clamp(0, 1).sqrt()
    phi = cosine * math.cos(margin) - sine * math.sin(margin)

    if easy:
        phi = torch.where(cosine > 0, phi, cosine)
    else:
        phi = torch.where(
            cosine > math.cos(math.pi - margin), phi, cosine - margin * math.sin(math.pi - margin)
        )

    hot = torch.nn.functional.one_hot(labels, IDENTITIES).float()
    want = torch.nn.functional.cross_entropy(scale * (hot * phi + (1 - hot) * cosine), labels)
    fallback = "easy" if easy else "linear"
    got = arcface_loss(rows, labels, weight, scale=scale, margin=margin, fallback=fallback)

    assert got.item() == pytest.approx(want.item(), rel=1e-5)
