"""Wrong gradients, and numbers that are not finite, of neighbouring projects."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from known_bugs.peers import is_measured

from clipreid_kit import (
    ArcFaceLoss,
    CachedContrastive,
    CenterLoss,
    CosFaceLoss,
    InfoNCELoss,
    SupConLoss,
    TripletLoss,
)


def gradients_of(module, loss):
    module.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in module.parameters()]


def cosine_pairs(rows):
    unit = F.normalize(rows, dim=1)
    return unit @ unit.T


def test_dropout_masks_are_replayed():
    """sentence-transformers PR#3862: the second pass of a cached loss drew other dropout masks.

    Here: both passes of a chunk use the same random numbers; the gradient is that of the graph
    that was computed.
    """
    encoder = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.5))
    images, texts = torch.randn(7, 6), torch.randn(7, 6)

    torch.manual_seed(5)
    cached = CachedContrastive(encoder, encoder, InfoNCELoss(0.2), chunk_size=3)
    value = cached(images, texts)
    got = gradients_of(encoder, value)

    torch.manual_seed(5)
    sides = [torch.cat([encoder(chunk) for chunk in side.split(3)]) for side in (images, texts)]
    similarity = F.normalize(sides[0], dim=1) @ F.normalize(sides[1], dim=1).T / 0.2
    target = torch.arange(7)
    plain = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2

    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(got, gradients_of(encoder, plain))


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 6, 7])
def test_every_chunk_adds_to_the_gradient(chunk_size):
    """sentence-transformers PR#3862: a mini-batched loss kept the gradient of the last chunk only.

    Here: any chunk size has the gradient of the whole batch.
    """
    encoder = torch.nn.Linear(4, 3)
    rows, labels = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])

    cached = CachedContrastive(encoder, None, TripletLoss(5.0), chunk_size=chunk_size)
    got = gradients_of(encoder, cached(rows, None, labels))

    distance = torch.cdist(
        encoder(rows), encoder(rows), compute_mode="donot_use_mm_for_euclid_dist"
    )
    same = labels[:, None] == labels
    farthest = distance.masked_fill(~same, -1).amax(dim=1)
    nearest = distance.masked_fill(same, torch.inf).amin(dim=1)
    plain = (farthest - nearest + 5.0).clamp(min=0).mean()
    torch.testing.assert_close(got, gradients_of(encoder, plain), atol=1e-5, rtol=1e-4)


def test_one_reduction_for_any_number_of_chunks():
    """sentence-transformers PR#4039: one all-reduce for each mini-batch, so unequal ranks hang.

    Here: every backward pass but the last runs without synchronisation.
    """
    entered = []

    @contextlib.contextmanager
    def no_sync():
        entered.append(True)
        yield

    encoder = torch.nn.Linear(4, 3)
    cached = CachedContrastive(encoder, encoder, InfoNCELoss(), chunk_size=2, no_sync=no_sync)
    cached(torch.randn(6, 4), torch.randn(6, 4)).backward()

    assert len(entered) == 3 + 3 - 1


@pytest.mark.parametrize("loss_class", [ArcFaceLoss, CosFaceLoss])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_margins_at_a_cosine_of_one(loss_class, sign):
    """fast-reid#111: the angle of a cosine of exactly 1 has an infinite slope, and ArcFace is NaN.

    Here: value and gradient are finite for an embedding on its own class vector and opposite.
    """
    loss = loss_class(4, 3)
    rows = (sign * loss.head.weight.detach()[:3]).reshape(-1, 4)[:3].clone().requires_grad_()

    value = loss(rows, torch.arange(3))
    value.backward()

    assert value.isfinite()
    assert rows.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in loss.parameters())


def test_margin_when_the_cosine_rounds_above_one():
    """ronghuaiyang/arcface-pytorch#32: the root of 1 - cos² is NaN once the cosine rounds above 1.

    Here: thousands of embeddings equal to their class vector give a finite loss, the one of
    exact arithmetic.
    """
    torch.manual_seed(1)
    loss = ArcFaceLoss(7, 2000, scale=10.0, margin=0.5)
    rows = loss.head.weight.detach().clone().requires_grad_()
    labels = torch.arange(2000)

    cosine = (
        F.normalize(rows.detach().double(), dim=1)
        @ F.normalize(loss.head.weight.detach().double()).T
    )
    cosine = cosine.clamp(-1, 1)
    logits = 10 * cosine
    logits[labels, labels] = 10 * torch.cos(torch.zeros(2000, dtype=torch.float64) + 0.5)

    value = loss(rows, labels)
    value.backward()
    assert value.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-3)
    assert rows.grad.isfinite().all()


def test_class_vectors_stay_float32_under_autocast():
    """pytorch-metric-learning#209: in half precision the class matrix of ArcFace became NaN.

    Here: the class vectors keep float32, the loss is that of float32, and a step leaves them
    finite; a peer's matrix takes the dtype of the embeddings.
    """
    loss = ArcFaceLoss(16, 5)
    rows, labels = torch.randn(8, 16), torch.arange(8) % 5

    with torch.autocast("cpu", torch.bfloat16):
        value = loss(rows, labels)
    value.backward()
    torch.optim.SGD(loss.parameters(), lr=1.0).step()

    assert loss.head.weight.dtype == torch.float32
    assert loss.head.weight.isfinite().all()

    half = ArcFaceLoss(16, 5)
    assert half(rows.half(), labels).dtype == torch.float32
    assert half.head.weight.dtype == torch.float32

    if is_measured("pytorch-metric-learning"):
        from pytorch_metric_learning.losses import ArcFaceLoss as PeerArcFace

        peer = PeerArcFace(num_classes=5, embedding_size=16)
        peer(rows.half(), labels)
        assert peer.W.dtype == torch.float16


def test_anchors_without_a_positive_are_left_out():
    """HobbitLong/SupContrast#141: SupCon is NaN for an anchor without a positive.

    Here: such anchors are left out of the mean, and serve as negatives.
    """
    rows, labels = torch.randn(4, 3), torch.tensor([0, 1, 1, 3])

    similarity = cosine_pairs(rows.double()) / 0.8
    terms = []
    for anchor, positive in ((1, 2), (2, 1)):
        others = [row for row in range(4) if row != anchor]
        denominator = torch.logsumexp(similarity[anchor, others], dim=0)
        terms.append(denominator - similarity[anchor, positive])

    want = sum(terms) / 2
    assert SupConLoss(0.8)(rows, labels).item() == pytest.approx(want.item(), rel=1e-5)


def test_an_anchor_without_a_positive_adds_nothing():
    """fast-reid, `losses/triplet_loss.py`: an anchor without a positive gets a distance of 0 to it.

    Here: it is no anchor, so its hinge does not lower the mean.
    """
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [9.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 2])

    # Hardest positive 1 away, hardest negative 0.5 away, for both anchors of identity 0.
    assert TripletLoss(0.3)(rows, labels).item() == pytest.approx(1 - 0.5 + 0.3)


def test_identities_of_unequal_sizes():
    """CLIP-ReID, `loss/triplet_loss.py`: a batch of unequal identities fails in a reshape.

    Here: any sizes, with the value of the definition.
    """
    rows = torch.tensor([[0.0], [1.0], [3.0], [4.0], [8.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])

    # (farthest of the identity, nearest of another): (3, 4), (2, 3), (3, 1), (4, 1), (4, 5).
    hinges = [0.0, 0.0, 2.3, 3.3, 0.0]
    assert TripletLoss(0.3)(rows, labels).item() == pytest.approx(sum(hinges) / 5)


@pytest.mark.parametrize("labels", [[7, 7, 7], [7]])
def test_a_batch_of_one_identity(labels):
    """BoxMOT, batch-hard triplet of `train-reid`: a batch of one identity is an error.

    Here: the loss is 0 and still has a graph, so a step of DDP does not wait.
    """
    rows = torch.randn(len(labels), 3, requires_grad=True)
    for loss in (TripletLoss(0.3), SupConLoss(), TripletLoss(None), TripletLoss(0.3, mining="all")):
        value = loss(rows, torch.tensor(labels))
        value.backward()
        assert value.isfinite()

    assert TripletLoss(0.3)(rows, torch.tensor(labels)).item() == 0
    assert rows.grad.isfinite().all()


def test_half_precision_of_large_embeddings():
    """CLIP-ReID, `loss/supcontrast.py`: large embeddings of half precision overflow to NaN.

    Here: similarities are computed in float32, so the loss is that of float32.
    """
    rows = (100 * torch.randn(8, 64)).half()
    labels = torch.arange(8) // 2

    for loss in (SupConLoss(0.1), TripletLoss(0.3), TripletLoss(None, distance="cosine")):
        want = loss(rows.float(), labels)
        assert loss(rows, labels).item() == pytest.approx(want.item(), rel=1e-4)


def test_triplets_in_bfloat16():
    """pytorch-metric-learning, `TripletMarginLoss`: no Euclidean triplet loss in bfloat16.

    Here: computed in float32; the peer raises an error on the CPU.
    """
    rows, labels = torch.randn(6, 8).bfloat16(), torch.arange(6) // 2
    want = TripletLoss(0.3)(rows.float(), labels)
    assert TripletLoss(0.3)(rows, labels).item() == pytest.approx(want.item(), rel=1e-5)

    if is_measured("pytorch-metric-learning"):
        from pytorch_metric_learning.losses import TripletMarginLoss

        with pytest.raises(RuntimeError, match="not implemented for 'BFloat16'"):
            TripletMarginLoss()(rows, labels)


def test_the_mean_counts_rows_whose_loss_is_zero():
    """fast-reid, `cross_entropy_loss`: the sum is divided by the rows with a loss.

    Here: by all rows, so the weight of a row does not rise while the others are learnt.
    """
    loss = CosFaceLoss(2, 2, scale=300.0, margin=0.0)
    with torch.no_grad():
        loss.head.weight.copy_(torch.eye(2).reshape(loss.head.weight.shape))

    learnt = torch.tensor([1.0, 0.0]).expand(3, 2)
    wrong = torch.tensor([[0.0, 1.0]])
    value = loss(torch.cat([learnt, wrong]), torch.zeros(4, dtype=torch.long))

    assert value.item() == pytest.approx(300 / 4)


@pytest.mark.unhooked
def test_a_label_beyond_the_classes_is_named():
    """deep-person-reid#420: a label beyond the classes fails in a scatter, without its name.

    Here: a ValueError that names the labels and the number of identities.
    """
    with pytest.raises(ValueError, match=r"center_loss: expected labels in \[0, 214\)"):
        CenterLoss(4, 214)(torch.randn(2, 4), torch.tensor([3, 214]))


def test_a_center_loss_is_trained():
    """CLIP-ReID#9: the centre loss is built and given an optimiser, but no loss ever calls it.

    Here: it is half the mean squared distance to the centres, and its centres move.
    """
    loss = CenterLoss(3, 2)
    rows, labels = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 0, 1, 1])
    centers = next(loss.parameters())

    value = loss(rows, labels)
    value.backward()
    distance = (rows.detach() - centers.detach()[labels]).square().sum(dim=1)

    assert value.item() in (
        pytest.approx(distance.mean().item() / 2),
        pytest.approx(distance.mean().item()),
    )
    assert centers.grad.abs().sum() > 0
