import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import metric as oracle
from strategies import labelled_rows, two_sides

from clipreid_kit.losses import TripletLoss, triplet_loss


def test_hand_computed():
    rows, labels = torch.tensor([[0.0], [1.0], [3.0], [3.5]]), torch.tensor([0, 0, 1, 1])

    # gaps (farthest positive - nearest negative): 1-3, 1-2, .5-2, .5-2.5
    assert triplet_loss(rows, labels, margin=2.0).item() == pytest.approx((0 + 1 + 0.5 + 0) / 4)
    assert triplet_loss(rows, labels, margin=2.0, average="violated").item() == pytest.approx(
        (1 + 0.5) / 2
    )


def test_hand_computed_across_modalities():
    images, texts = torch.tensor([[0.0], [4.0], [10.0]]), torch.tensor([[1.0], [3.0], [9.0]])
    labels = torch.arange(3)

    # image to text, gaps: 1-3, 1-3, 1-7; text to image: 1-3, 1-3, 1-5
    assert triplet_loss(images, labels, texts, labels, margin=3.0).item() == pytest.approx(
        (1 + 1 + 0) / 3
    )
    assert triplet_loss(texts, labels, images, labels, margin=3.0).item() == pytest.approx(
        (1 + 1 + 0) / 3
    )
    assert triplet_loss(texts, labels, images, labels, margin=5.0).item() == pytest.approx(
        (3 + 3 + 1) / 3
    )


OPTIONS = (
    st.sampled_from([0.3, 0.0, 1.0, None]),
    st.sampled_from(["hardest", "semi_hard", "all"]),
    st.sampled_from(["euclidean", "cosine"]),
    st.sampled_from([None, "mined", "violated"]),
)


@given(labelled_rows(), *OPTIONS)
def test_equals_the_paper(sample, margin, mining, distance, average):
    rows, labels = sample
    # Of rows that coincide, rounding decides which is farther, and so which triplets count.
    counts_triplets = mining != "hardest" or average == "violated"
    assume(not counts_triplets or len(rows.unique(dim=0)) == len(rows))

    # float64: which triplets count is decided by comparisons, and the oracle compares in float64
    got = triplet_loss(
        rows.double(), labels, margin=margin, mining=mining, distance=distance, average=average
    )
    want = oracle.triplet(
        rows.tolist(), labels.tolist(), None, None, margin, mining, distance, average
    )

    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


@given(two_sides(), *OPTIONS)
def test_equals_the_paper_across_modalities(sample, margin, mining, distance, average):
    sides = tuple(side.double() if side.is_floating_point() else side for side in sample)
    got = TripletLoss(margin, mining=mining, distance=distance, average=average)(*sides)
    want = oracle.triplet(*(side.tolist() for side in sides), margin, mining, distance, average)
    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("mining", ["hardest", "semi_hard", "all"])
@pytest.mark.parametrize("margin", [0.5, None])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_gradients_of_both_sides(mining, margin, distance):
    images = torch.randn(5, 3).double().requires_grad_()
    texts = torch.randn(6, 3).double().requires_grad_()
    labels, text_labels = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 1, 1, 2, 2, 4])

    assert torch.autograd.gradcheck(
        lambda i, t: triplet_loss(
            i, labels, t, text_labels, margin=margin, mining=mining, distance=distance
        ),
        (images, texts),
    )


def test_near_duplicates_keep_their_digits():
    rows = torch.tensor([[1000.0, 0.0], [1000.0, 0.001], [1000.0, 0.004], [1000.0, 0.0]]).double()
    labels = torch.tensor([0, 0, 1, 1])
    want = oracle.triplet(
        rows.tolist(), labels.tolist(), None, None, 0.01, "hardest", "euclidean", None
    )

    assert triplet_loss(rows.float(), labels, margin=0.01).item() == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("mining", ["hardest", "semi_hard", "all"])
def test_an_anchor_without_a_positive_is_left_out(mining):
    rows, labels = torch.randn(5, 4).double(), torch.tensor([0, 0, 1, 1, 2])
    got = triplet_loss(rows, labels, margin=100.0, mining=mining)
    want = oracle.triplet(
        rows.tolist(), labels.tolist(), None, None, 100.0, mining, "euclidean", None
    )

    assert want > 50  # an average over four anchors, not five with a zero
    assert got.item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("average", [None, "mined", "violated"])
def test_every_triplet_violates_a_soft_margin(average):
    texts, text_labels = torch.tensor([[0.0], [1.0], [500.0]]), torch.tensor([0, 1, 1])
    loss = triplet_loss(
        torch.zeros(1, 1),
        torch.tensor([0]),
        texts,
        text_labels,
        margin=None,
        mining="all",
        average=average,
    )

    # Ln(1 + e^-500) rounds to 0, and counts.
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)) / 2)


@pytest.mark.parametrize("mining", ["hardest", "semi_hard", "all"])
@pytest.mark.parametrize("margin", [0.3, None])
def test_nan_is_not_hidden(mining, margin):
    rows, labels = torch.randn(4, 3), torch.tensor([0, 0, 1, 1])
    rows[1, 2] = float("nan")
    assert triplet_loss(rows, labels, margin=margin, mining=mining).isnan()


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, "margin >= 0.*soft margin.*got -0.1"),
        ({"mining": "easy"}, "mining to be one of hardest, semi_hard, all"),
        ({"distance": "l2"}, "distance to be one of euclidean, cosine"),
        ({"average": "all"}, "average to be one of mined, violated"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        TripletLoss(**options)
    with pytest.raises(ValueError, match=message):
        triplet_loss(torch.zeros(2, 2), torch.zeros(2).long(), **options)
